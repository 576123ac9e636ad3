"""The shipped families: ordinary checkpoints, small, alike in tokenizer, and as good as their cards say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfdev_core.miniature.families import FAMILIES, family_card, family_folder
from selfdev_core.miniature.gates import sample_programs, valid_programs
from selfdev_core.miniature.merges import applied, task_vectors, weighted
from selfdev_core.miniature.problems import questions
from selfdev_core.miniature.scoring import drill_exam, greedy_right

MEMBERS = ("seed", "alpha", "beta")
TOLERANCE = 0.08  # 128 questions, where the card measured 384


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def test_the_weights_are_small() -> None:
    files = [path for name in FAMILIES for path in family_folder(name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 25_000_000


@pytest.mark.parametrize("family", FAMILIES)
def test_members_are_ordinary_checkpoints_with_one_tokenizer(family: str) -> None:
    tokenizers = set()
    for member in MEMBERS:
        folder = family_folder(family) / member
        with safe_open(folder / "model.safetensors", "pt") as weights:
            assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"BF16"}  # noqa: SIM118
        config = json.loads((folder / "config.json").read_text())
        assert config["architectures"] == ["LlamaForCausalLM"]
        assert (folder / "generation_config.json").exists()
        tokenizers.add((folder / "tokenizer.json").read_text())
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert tokenizer.eos_token_id == config["eos_token_id"] != tokenizer.pad_token_id == config["pad_token_id"]
        assert tokenizer.padding_side == "left"
    assert len(tokenizers) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_experts_differ_from_the_seed_in_the_merged_scope_only(family: str) -> None:
    card = family_card(family)
    seed, alpha = (load(family_folder(family) / member).state_dict() for member in ("seed", "alpha"))
    changed = {name for name, weight in seed.items() if not torch.equal(weight, alpha[name])}
    assert changed and (card.scope == "all" or all(f".{card.scope}." in name for name in changed))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_card_is_true(family: str) -> None:
    card = family_card(family)
    assert card.family == family and all(gate.passed for gate in card.gates)
    gates = {gate.name: gate.value for gate in card.gates}
    tokenizer = AutoTokenizer.from_pretrained(family_folder(family) / "seed")
    seed, alpha, beta = (load(family_folder(family) / member) for member in MEMBERS)
    asked = questions(family, "validation", 128)

    def accuracy(model: Any) -> float:
        right = greedy_right(model, tokenizer, asked)
        return sum(right) / len(right)

    assert drill_exam(tokenizer, 200, 1).accuracy(seed) == pytest.approx(gates["drill accuracy"], abs=TOLERANCE)
    assert accuracy(seed) == pytest.approx(gates["seed accuracy"], abs=TOLERANCE)
    alone = {"alpha": accuracy(alpha), "beta": accuracy(beta)}
    for name, value in alone.items():
        assert value == pytest.approx(card.record[f"{name} accuracy"], abs=TOLERANCE)
    vectors = task_vectors(seed, {"alpha": alpha, "beta": beta}, card.scope)
    coefficient = card.record["best uniform coefficient"]
    with applied(seed, weighted(vectors, dict.fromkeys(("alpha", "beta"), coefficient))) as merged:
        assert accuracy(merged) > max(alone.values())
    programs = sample_programs(seed, tokenizer, 64, 1.0, 123)
    assert sum(valid_programs(programs)) / 64 >= 0.85
    assert len(set(programs)) / 64 >= 0.8
