"""The program grammar: every program keeps the contract, and the tokenizer gives it back unharmed."""

from __future__ import annotations

import random
import statistics

import pytest

from selfdev_core.miniature.gates import valid_programs
from selfdev_core.miniature.problems import questions
from selfdev_core.miniature.programs import PROMPT, sample_program
from selfdev_core.miniature.tokenizer import train_tokenizer


def programs(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [sample_program(rng) for _ in range(count)]


def test_the_prompt_is_the_fixed_one() -> None:
    assert PROMPT == "import torch\n\ndef merge_models(model_dict, device, layer):"
    assert all(program.startswith(f"{PROMPT}\n    ") for program in programs(100))


def test_grammar_programs_keep_the_contract() -> None:
    drawn = programs(500)
    assert [program for program, valid in zip(drawn, valid_programs(drawn), strict=True) if not valid] == []


def test_grammar_programs_are_diverse_and_repeatable() -> None:
    assert len(set(programs(500))) > 450
    assert programs(50) == programs(50)


def test_programs_that_break_the_contract_are_invalid() -> None:
    bodies = [
        "return model_dict['alpha'].sum()",
        "return model_dict['alpha'] > 0",
        "return model_dict['alpha'] / 0",
        "return model_dict['gamma']",
        "model_dict['alpha'].mul_(2)\n    return model_dict['beta']",
        "return 0.5 *",
        "import os\n    os._exit(0)",
        "raise SystemExit",
    ]
    assert valid_programs(f"{PROMPT}\n    {body}" for body in bodies) == [False] * len(bodies)


def test_the_tokenizer_gives_every_text_back_and_keeps_the_prompt_a_prefix() -> None:
    tokenizer = train_tokenizer()
    prompt = tokenizer(PROMPT)["input_ids"]
    lengths = []
    for program in programs(300):
        tokens = tokenizer(program)["input_ids"]
        assert tokenizer.decode(tokens) == program
        assert tokens[: len(prompt)] == prompt
        lengths.append(len(tokens) - len(prompt))
    assert max(lengths) <= 120 and statistics.fmean(lengths) < 60


@pytest.mark.parametrize("family", ["arithmetic", "transfer"])
def test_questions_and_answers_are_short_in_tokens(family: str) -> None:
    tokenizer = train_tokenizer()
    for one in questions(family, "test", 800):
        prompt, answer = f"Q: {one.question}\nA:", f" {one.solution}"
        assert tokenizer.decode(tokenizer(prompt + answer)["input_ids"]) == prompt + answer
        assert (
            tokenizer(prompt)["input_ids"] + tokenizer(answer)["input_ids"] == tokenizer(prompt + answer)["input_ids"]
        )
        assert len(tokenizer(prompt)["input_ids"]) <= 60
        assert len(tokenizer(answer)["input_ids"]) <= 44
