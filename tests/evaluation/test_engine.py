"""The engine: greedy answers of a real (tiny) model, with merged weights in place and taken out again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from selfdev_core.errors import EngineError
from selfdev_core.evaluation.engine import answer
from selfdev_core.workers import models as worker_models
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
