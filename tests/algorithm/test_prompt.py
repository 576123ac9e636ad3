"""Prompts, and the way from a model's answer to a program and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfdev_core.algorithm.contract import check_source
from selfdev_core.algorithm.prompt import continuation_of, load_prompt, program_of
from selfdev_core.errors import ConfigError

BODIES = ["\n    return sum(model_dict.values())", "\n    x = 1\n    return x * list(model_dict.values())[0]\n"]


def test_the_miniature_prompt_ends_where_a_program_goes_on() -> None:
    assert load_prompt("miniature").endswith(":")


@pytest.mark.parametrize("body", BODIES)
def test_program_and_continuation_are_inverse_for_a_prompt_that_opens_the_program(body: str) -> None:
    prompt = load_prompt("miniature")
    program = program_of(prompt, body)
    assert check_source(program) is None
    assert continuation_of(prompt, program) == body
    assert program_of(prompt, continuation_of(prompt, program)) == program


@pytest.mark.parametrize("body", BODIES)
def test_program_and_continuation_are_inverse_for_a_prompt_that_asks_for_a_block(body: str) -> None:
    prompt = load_prompt("paper")
    program = f"import torch\n\ndef merge_models(model_dict, device):{body.rstrip()}\n"
    continuation = continuation_of(prompt, program)
    assert program_of(prompt, continuation) == program
    assert continuation_of(prompt, program_of(prompt, continuation)) == continuation


def test_text_before_the_opening_is_no_part_of_the_program() -> None:
    prompt = "Write a merge.\n\nimport torch\n\ndef merge_models(model_dict, device):"
    assert program_of(prompt, BODIES[0]).startswith("import torch\n")


@pytest.mark.parametrize("fence", ["```python\n", "```py\n", "```\n", "Sure! Here:\n```python \n"])
def test_the_first_fenced_block_is_the_program(fence: str) -> None:
    answer = f"{fence}x = 1\n```\nThen:\n```python\nx = 2\n```"
    assert program_of("Write a program.", answer) == "x = 1\n"


def test_an_unfinished_block_and_a_bare_answer_are_programs_too() -> None:
    assert program_of("Write.", "```python\nx = 1") == "x = 1"
    assert program_of("Write.", "x = 1") == "x = 1"


def test_a_missing_or_empty_prompt_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"factory\.prompt.*nothing\.txt"):
        load_prompt(tmp_path / "nothing.txt")
    empty = tmp_path / "empty.txt"
    empty.write_text(" \n")
    with pytest.raises(ConfigError, match=r"factory\.prompt.*empty"):
        load_prompt(empty)


def test_no_shipped_prompt_holds_a_question_or_a_score() -> None:
    for name in ("miniature", "paper"):
        text = load_prompt(name)
        assert "Q:" not in text and "####" not in text
