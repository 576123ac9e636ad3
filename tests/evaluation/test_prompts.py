"""Prompts through a seed's chat template: rendered once, in a process that cannot hang us."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from selfdev_core.errors import ConfigError
from selfdev_core.evaluation import prompts
from selfdev_core.evaluation.prompts import finished_template, has_chat_template

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</{{ m.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
SHOTS = [("1 + 1?", "2\n#### 2"), ("2 + 2?", "4\n#### 4")]


def seed_with(folder: Path, pico: Any, template: str, adds_begin: bool = False) -> Path:
    """The pico seed with a chat template; its `<pad>` plays the beginning-of-text token, which its tokenizer may add itself."""
    shutil.copytree(pico.seed, folder)
    (folder / "chat_template.jinja").write_text(template)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"bos_token": "<pad>"}))
    if adds_begin:
        path = folder / "tokenizer.json"
        tokenizer = json.loads(path.read_text())
        begin = {"SpecialToken": {"id": "<pad>", "type_id": 0}}
        own = {"Sequence": {"id": "A", "type_id": 0}}
        tokenizer["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [begin, own],
            "pair": [begin, own, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<pad>": {"id": "<pad>", "ids": [0], "tokens": ["<pad>"]}},
        }
        path.write_text(json.dumps(tokenizer))
    return folder


def test_without_a_chat_template_examples_are_text(pico: Any) -> None:
    text, ends = finished_template("Q: {question}\nA:", SHOTS, "auto", pico.seed)
    assert ends == ()
    assert text == "Q: 1 + 1?\nA: 2\n#### 2\n\nQ: 2 + 2?\nA: 4\n#### 4\n\nQ: {question}\nA:"
    assert finished_template("Q: {question}\nA:", [], "auto", pico.seed).text == "Q: {question}\nA:"
    with pytest.raises(ConfigError, match=r"questions\.chat: on, but .* has no chat template; use auto or off"):
        finished_template("{question}", [], "on", pico.seed)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("chat_template.jinja", "x"),
        ("chat_template.json", "{}"),
        ("tokenizer_config.json", '{"chat_template": "x"}'),
        ("tokenizer_config.json", '{"chat_template": [{"name": "default", "template": "x"}]}'),
    ],
)
def test_a_chat_template_is_found_in_every_place_it_may_stand(tmp_path: Path, name: str, content: str) -> None:
    assert not has_chat_template(tmp_path)
    (tmp_path / name).write_text(content)
    assert has_chat_template(tmp_path)


@pytest.mark.slow
def test_with_a_chat_template_examples_are_turns(pico: Any, tmp_path: Path) -> None:
    seed = seed_with(tmp_path / "seed", pico, TEMPLATE)
    text, ends = finished_template("Q: {question}", SHOTS, "auto", seed)
    assert ends == ("</assistant>",)
    assert text == (
        "<pad><user>Q: 1 + 1?</user><assistant>2\n#### 2</assistant><user>Q: 2 + 2?</user><assistant>4\n#### 4</assistant>"
        "<user>Q: {question}</user><assistant>"
    )
    assert finished_template("Q: {question}", SHOTS[:1], "off", seed) == ("Q: 1 + 1? 2\n#### 2\n\nQ: {question}", ())


@pytest.mark.slow
def test_a_beginning_token_that_the_tokenizer_adds_itself_is_not_given_twice(pico: Any, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    seed = seed_with(tmp_path / "seed", pico, TEMPLATE, adds_begin=True)
    text = finished_template("{question}", [], "on", seed).text
    assert text == "<user>{question}</user><assistant>"
    assert AutoTokenizer.from_pretrained(seed)(text)["input_ids"][:2].count(0) == 1


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (TEMPLATE, "</assistant>"),
        ("{% for m in messages %}{{ m.content }}<pad>\n{% endfor %}", "<pad>"),
        ("{% for m in messages %}{{ m.content }} [end]<pad>\n{% endfor %}", "[end]"),
        ("{% for m in messages %}{{ m.content }}<eos>\n{% endfor %}", ""),  # the tokenizer's own
        ("{% for m in messages %}{{ m.content }}\n\n{% endfor %}", ""),
        ("{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}<pad>{% endfor %}", ""),
        ("{% if messages[-1].role != 'user' %}{{ raise_exception('no') }}{% endif %}{{ messages[0].content }}", ""),
    ],
)
def test_a_chat_template_shows_how_it_ends_an_answer(pico: Any, tmp_path: Path, template: str, end: str) -> None:
    from selfdev_core.evaluation.chat import _rendered

    seed = seed_with(tmp_path / "seed", pico, template)
    assert _rendered(str(seed), [{"role": "user", "content": "{question}"}])["end"] == end


@pytest.mark.slow
@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for %}", "cannot be rendered: TemplateSyntaxError"),
        ("{{ raise_exception('only one turn') }}", "cannot be rendered: .*only one turn"),
        ("{{ messages[0].role }}", "leaves out what the user says"),
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "was not rendered within 15 s",
        ),
    ],
)
def test_a_chat_template_that_fails_or_hangs_is_refused(
    pico: Any, tmp_path: Path, template: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts, "_SECONDS", 15.0)
    with pytest.raises(ConfigError, match=rf"questions\.chat: .*{message}.*use chat: off"):
        finished_template("{question}", [], "auto", seed_with(tmp_path / "seed", pico, template))


@pytest.mark.slow
def test_a_seed_whose_tokenizer_cannot_be_loaded_is_named(pico: Any, tmp_path: Path) -> None:
    seed = seed_with(tmp_path / "seed", pico, TEMPLATE)
    (seed / "tokenizer.json").write_text("{")
    with pytest.raises(ConfigError, match=r"questions\.chat: .*seed"):
        finished_template("{question}", [], "auto", seed)
