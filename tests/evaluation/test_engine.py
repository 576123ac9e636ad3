"""The engine: greedy answers of a real (tiny) model, with merged weights in place and taken out again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from selfdev_core.errors import EngineError
from selfdev_core.evaluation.engine import answer
from selfdev_core.workers import models as worker_models
from selfdev_core.workers.generation import continue_prompts
from selfdev_core.workers.models import load, swap

PROMPTS = ["Q: 1 + 1?\nA:", "Q: What is 12 + 30, and then?\nA:", "x", "Q: 7?\nA:", "Q: 1 + 1?\nA:"]


@pytest.fixture
def folder(pico: Any) -> Iterator[Path]:
    yield pico.seed
    worker_models._loaded.clear()


def _state(folder: Path) -> dict[str, Any]:
    return {name: tensor.clone() for name, tensor in load(folder).model.state_dict().items()}


def test_answers_do_not_depend_on_the_batch_size(folder: Path) -> None:
    alone = answer(str(folder), None, PROMPTS, 12, 1)
    for size in (2, 3, 128):
        assert answer(str(folder), None, PROMPTS, 12, size) == alone
    assert alone[0] == alone[4] and alone[0] != alone[1]
    assert all(0 < tokens <= 12 for _, tokens in alone)


def test_answers_do_not_depend_on_their_neighbours_or_their_order(folder: Path) -> None:
    forward = answer(str(folder), None, PROMPTS, 12, 2)
    assert answer(str(folder), None, PROMPTS[::-1], 12, 2) == forward[::-1]


def _with_settings(folder: Path, copy: Path, **settings: Any) -> Path:
    """A copy of a checkpoint whose generation_config.json says this, too."""
    shutil.copytree(folder, copy)
    path = copy / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return copy


def test_of_a_checkpoints_generation_settings_only_the_end_tokens_count(folder: Path, tmp_path: Path) -> None:
    plain = answer(str(folder), None, PROMPTS, 12, 4)
    hints = {"repetition_penalty": 9.0, "no_repeat_ngram_size": 1, "min_new_tokens": 12, "suppress_tokens": [9, 40, 80]}
    assert answer(str(_with_settings(folder, tmp_path / "hints", **hints)), None, PROMPTS, 12, 4) == plain
    text = plain[0][0]
    letter = next(one for one in text[1:] if one.isascii() and one.isprintable() and one not in text[0] + " ")
    token = load(folder).tokenizer.convert_tokens_to_ids(letter)
    ends = _with_settings(folder, tmp_path / "ends", eos_token_id=[1, token])
    assert answer(str(ends), None, PROMPTS[:1], 12, 4)[0][0] == text.split(letter)[0]


def test_a_stop_that_is_a_special_token_ends_an_answer(folder: Path, tmp_path: Path) -> None:
    text = answer(str(folder), None, PROMPTS[:1], 12, 1)[0][0]
    letter = next(one for one in text[1:] if one.isascii() and one.isprintable() and one not in text[0] + " ")
    special = tmp_path / "special"
    shutil.copytree(folder, special)
    tokenizer = json.loads((special / "tokenizer.json").read_text())
    here = {"id": load(folder).tokenizer.convert_tokens_to_ids(letter), "content": letter, "special": True}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    tokenizer["added_tokens"].append(here | flags)
    (special / "tokenizer.json").write_text(json.dumps(tokenizer))
    (given,) = continue_prompts(load(special), PROMPTS[:1], 12, (letter,))
    assert given.text == text.split(letter)[0] and given.finished


def test_tokens_behind_a_stop_do_not_count(folder: Path) -> None:
    texts = [text for text, _ in answer(str(folder), None, PROMPTS, 12, 1)]
    pairs = [text[at : at + 2] for text in texts for at in range(2, len(text) - 1)]
    stop = tuple(sorted({pair for pair in pairs if pair.isascii() and pair.isprintable()})[:2])
    alone = answer(str(folder), None, PROMPTS, 12, 1, stop)
    assert answer(str(folder), None, PROMPTS, 12, 8, stop) == alone
    assert [text for text, _ in alone] != texts and len({tokens for _, tokens in alone}) > 1


def test_a_merge_is_put_in_place_and_taken_out_exactly(folder: Path, tmp_path: Path) -> None:
    import torch

    before, names = _state(folder), [f"model.layers.{i}.mlp.up_proj.weight" for i in (0, 1)]
    plain = answer(str(folder), None, PROMPTS, 12, 4)
    for i, changed in enumerate(([names[0]], names, [names[1]])):
        path = tmp_path / f"{i}.safetensors"
        merged = {name: (before[name] * -3 + i).contiguous() for name in changed}
        save_file(merged, path)
        other = answer(str(folder), str(path), PROMPTS, 12, 4)
        assert other != plain
        for name, tensor in _state(folder).items():
            assert torch.equal(tensor, merged.get(name, before[name])), name
    assert answer(str(folder), None, PROMPTS, 12, 4) == plain
    assert all(torch.equal(tensor, before[name]) for name, tensor in _state(folder).items())


def test_tied_embeddings_stay_tied_under_a_swap(folder: Path, tmp_path: Path) -> None:
    import torch

    name = "model.embed_tokens.weight"
    save_file({name: _state(folder)[name] + 1}, tmp_path / "w.safetensors")
    swap(load(folder), tmp_path / "w.safetensors")
    model = load(folder).model
    assert torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)


def test_a_weight_that_the_seed_does_not_have_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    import torch

    save_file({"model.layers.9.mlp.up_proj.weight": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(EngineError, match=r"w\.safetensors: 'model\.layers\.9\.mlp"):
        answer(str(folder), str(tmp_path / "w.safetensors"), PROMPTS, 4, 4)


def test_a_folder_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=str(tmp_path)):
        answer(str(tmp_path), None, PROMPTS, 4, 4)
