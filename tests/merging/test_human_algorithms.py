"""The human-designed methods by their papers' formulas, and their grids. `tests/mergekit` compares them with mergekit."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from selfdev_core.config import ControlsConfig
from selfdev_core.grids import METHODS, HumanMethod
from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.merging.human import breadcrumbs, human_algorithms, program, ties
from selfdev_core.merging.merge import merge, write_bundles
from selfdev_core.sandbox.client import Sandbox

Tensors = list[torch.Tensor]


@pytest.fixture(scope="module")
def opened(
    pico: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Checkpoint, Sandbox, dict[str, Tensors]]]:
    """A seed, a sandbox with the task vectors of its experts, and these by parameter."""
    seed, experts = Checkpoint(pico.seed), {name: Checkpoint(folder) for name, folder in pico.experts.items()}
    with Sandbox(write_bundles(seed, experts, "mlp", tmp_path_factory.mktemp("human")), 60.0, 2.0) as sandbox:
        names = sandbox.bundles["full"].shapes
        vectors = {n: [e.tensor(n).float() - seed.tensor(n).float() for e in experts.values()] for n in names}
        yield seed, sandbox, vectors


def mean(vectors: Tensors) -> torch.Tensor:
    return torch.stack(vectors).mean(dim=0)


def stock(vectors: Tensors) -> torch.Tensor:
    flat = [vector.double().flatten() for vector in vectors]
    cosines = [float(a @ b / a.norm() / b.norm()) for i, a in enumerate(flat) for b in flat[i + 1 :]]
    cosine, count = sum(cosines) / len(cosines), len(flat)
    return mean(vectors) * count * cosine / (1 + (count - 1) * cosine)


def slerped(vectors: Tensors) -> torch.Tensor:
    merged = vectors[0]
    for i, vector in enumerate(vectors[1:], start=2):
        angle = math.acos(torch.cosine_similarity(merged.flatten().double(), vector.flatten().double(), dim=0))
        share = 2 * 0.4 / i
        merged = (math.sin((1 - share) * angle) * merged + math.sin(share * angle) * vector) / math.sin(angle)
    return 0.7 * merged


def crumbs(vectors: Tensors) -> torch.Tensor:
    total = torch.zeros_like(vectors[0])
    for vector in vectors:
        places = sorted(range(vector.numel()), key=lambda i: (abs(float(vector.flatten()[i])), i))
        top, kept = int(0.05 * len(places)), int(0.6 * len(places))
        mask = torch.zeros(vector.numel())
        mask[places[len(places) - top - kept : len(places) - top]] = 1.0
        total += vector * mask.view_as(vector)
    return 0.5 * total


FORMULAS: dict[str, tuple[HumanMethod, dict[str, float], Any]] = {
    "linear": ("linear", {"SEED_WEIGHT": 0.0}, mean),
    "linear with the seed": ("linear", {"SEED_WEIGHT": 1.0}, lambda v: sum(v) / (len(v) + 1)),
    "slerp": ("slerp", {"T": 0.4, "COEFFICIENT": 0.7}, slerped),
    "model stock": ("model_stock", {}, stock),
    "breadcrumbs": ("breadcrumbs", {"DENSITY": 0.6, "GAMMA": 0.05, "COEFFICIENT": 0.5}, crumbs),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_method_is_its_formula(name: str, opened: tuple[Checkpoint, Sandbox, dict[str, Tensors]]) -> None:
    method, constants, formula = FORMULAS[name]
    _, sandbox, vectors = opened
    run = sandbox.run(program(method, **constants), "full")
    assert run.reason == "accepted", run.detail
    for parameter, tensor in run.tensors.items():
        torch.testing.assert_close(tensor, formula(vectors[parameter]), rtol=1e-4, atol=1e-6)


def test_della_keeps_large_entries_more_often_and_divides_each_by_its_probability(
    opened: tuple[Checkpoint, Sandbox, dict[str, Tensors]],
) -> None:
    _, sandbox, vectors = opened
    run = sandbox.run(program("della_linear", DENSITY=0.5, EPSILON=0.3, COEFFICIENT=0.6), "full")
    assert run.reason == "accepted", run.detail
    for name, tensor in run.tensors.items():
        generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big"))
        delta = torch.zeros_like(tensor)
        for vector in vectors[name]:
            drawn = torch.rand(vector.shape, generator=generator)
            for row, own, to in zip(vector, drawn, delta, strict=True):
                ranks = row.abs().argsort(stable=True).argsort()
                chance = 0.2 + 0.6 * ranks / (len(row) - 1)
                to += 0.6 * torch.where(own < chance, row / chance, 0.0)
        torch.testing.assert_close(tensor, delta, rtol=1e-4, atol=1e-6)


def test_every_grid_point_runs_and_has_a_label_of_its_own(opened: tuple[Checkpoint, Sandbox, Any]) -> None:
    seed, sandbox, _ = opened
    grid = human_algorithms(ControlsConfig())
    assert len({one.label for one in grid}) == len({one.source for one in grid}) == len(grid) <= 23
    assert len({one.method for one in grid}) == len(METHODS)
    weights = set()
    for one in grid:
        record, _ = merge("a-1", one.source, seed, sandbox)
        assert record.verdict.accepted, (one.label, record.verdict)
        weights.add(record.weights_sha256)
    assert len(weights) == len(grid)


def test_methods_and_grids_can_be_chosen() -> None:
    assert human_algorithms(ControlsConfig(human=())) == []
    some = ControlsConfig.model_validate({"human": ["ties", "model_stock"], "ties": [[0.2, 1.0], [0.4, 1.4]]})
    assert [one.label for one in human_algorithms(some)] == ["TIES 0.2/1", "TIES 0.4/1.4", "Model Stock"]
    earlier = {"task_arithmetic": [0.3], "ties": [], "dare": [[0.6, 0.8]]}  # what campaign files could say before
    known = [one for one in human_algorithms(ControlsConfig.model_validate(earlier)) if one.method in ("DARE", "TIES")]
    assert [one.label for one in known] == ["DARE 0.6/0.8"] and "DROP = 0.6\nCOEFFICIENT = 0.8\n" in known[0].source


@pytest.mark.parametrize(
    ("grid", "told"),
    [
        ({"human": ["tie"]}, "human"),
        ({"ties": [[0.0, 1.0]]}, "ties"),
        ({"dare": [[1.0, 1.0]]}, "dare"),
        ({"slerp": [[1.5, 1.0]]}, "slerp"),
        ({"linear": [-1.0]}, "linear"),
        ({"breadcrumbs": [[0.9, 1.0]]}, "breadcrumbs"),
        ({"della": [[0.2, 0.3, 1.0]]}, "della: density ± spread must lie above 0 and at most at 1, got 0.2 ± 0.3"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(grid: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        ControlsConfig.model_validate(grid)


@pytest.mark.parametrize("values", ["normal", "few different", "mostly zero", "one"])
def test_the_cut_is_exact_whatever_the_numbers(values: str) -> None:
    numbers = torch.randn(5001, generator=torch.Generator().manual_seed(3)) * 1e-3
    if values == "few different":
        numbers = (numbers * 2000).round() / 2000
    elif values == "mostly zero":
        numbers[100:] = 0.0
    elif values == "one":
        numbers = numbers[:1]
    size = numbers.abs()
    ordered = size.sort().values
    for k in {1, 1 + len(size) // 2, len(size)}:
        assert ties.largest(size, k) == ordered[len(size) - k]
        assert breadcrumbs.smallest(size, k) == ordered[k - 1]
        assert breadcrumbs.first(size, k).sum() == k
    trimmed = numbers * ties.trim(numbers)
    kept = max(1, int(ties.DENSITY * len(numbers)))
    assert (trimmed != 0).sum() == min(kept, int((numbers != 0).sum()))


def test_what_several_programs_need_is_the_same_in_each() -> None:
    texts = {method: (files("selfdev_core.merging.human") / f"{method}.py").read_text() for method in METHODS}
    for function, methods in {
        "def elect(": ("dare_ties", "breadcrumbs_ties", "della"),
        "def thin(": ("dare", "dare_ties"),
        "def sieve(": ("breadcrumbs", "breadcrumbs_ties"),
        "def first(": ("breadcrumbs", "breadcrumbs_ties"),
        "def smallest(": ("breadcrumbs", "breadcrumbs_ties"),
        "def sample(": ("della", "della_linear"),
    }.items():
        found = {texts[method].split(function)[1].split("\n\n\n")[0].strip() for method in methods}
        assert len(found) == 1, function
        assert {method for method, text in texts.items() if function in text} == set(methods)
