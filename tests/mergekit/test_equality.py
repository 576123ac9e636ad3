"""Each human-designed method gives what mergekit gives for the same recipe, on real checkpoints, through mergekit's own
command line. docs/human-algorithms.md has the recipes as a table.

mergekit computes in float32 here, as our programs do; where its default differs from the method's paper the recipe sets it.
The random methods are given the same masks (`seeded.py`), so they are compared entry by entry too; DELLA without its rescaling,
which mergekit does not have (tests/merging/test_human_algorithms.py has it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml

from selfdev_core.grids import METHODS, HumanMethod
from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.merging.human import program
from selfdev_core.merging.merge import write_bundles
from selfdev_core.sandbox.client import Sandbox
from tests.mergekit.environment import mergekit

pytestmark = [pytest.mark.mergekit, pytest.mark.slow]

ELECTED = {"normalize": True, "rescale": False}
SUMMED = {"normalize": False, "rescale": False}


class Recipe(NamedTuple):
    """A method with its constants; mergekit's method, its parameters for the merge and for each expert; on which experts."""

    method: HumanMethod
    constants: dict[str, float]
    theirs: str
    parameters: dict[str, Any] | None = None
    each: dict[str, Any] | None = None
    experts: tuple[str, ...] = ("b", "a", "c")
    seed_weight: float | None = None
    """Set where mergekit takes the seed as one of the models."""


RECIPES = {
    "linear": Recipe("linear", {"SEED_WEIGHT": 0.0}, "linear", each={"weight": 1.0}),
    "linear with the seed": Recipe("linear", {"SEED_WEIGHT": 1.5}, "linear", each={"weight": 1.0}, seed_weight=1.5),
    "slerp": Recipe("slerp", {"T": 0.3}, "nuslerp", {"nuslerp_flatten": True}, experts=("b", "a")),
    "task arithmetic": Recipe("task_arithmetic", {"COEFFICIENT": 0.3}, "task_arithmetic", each={"weight": 0.3}),
    "ties": Recipe(
        "ties", {"DENSITY": 0.37, "COEFFICIENT": 1.4}, "ties", ELECTED | {"lambda": 1.4}, {"weight": 1.0, "density": 0.37}
    ),
    "dare": Recipe(
        "dare", {"DROP": 0.6, "COEFFICIENT": 0.8}, "dare_linear", SUMMED | {"lambda": 0.8 / 0.4}, {"weight": 1.0, "density": 0.4}
    ),
    "dare ties": Recipe(
        "dare_ties",
        {"DROP": 0.3, "COEFFICIENT": 0.9},
        "dare_ties",
        ELECTED | {"lambda": 0.9 / 0.7},
        {"weight": 1.0, "density": 0.7},
    ),
    "model stock": Recipe("model_stock", {}, "model_stock"),
    "model stock of two": Recipe("model_stock", {}, "model_stock", experts=("a", "c")),
    "breadcrumbs": Recipe(
        "breadcrumbs",
        {"DENSITY": 0.8, "GAMMA": 0.05, "COEFFICIENT": 0.6},
        "breadcrumbs",
        SUMMED,
        {"weight": 0.6, "density": 0.8, "gamma": 0.05},
    ),
    "breadcrumbs ties": Recipe(
        "breadcrumbs_ties",
        {"DENSITY": 0.6, "GAMMA": 0.01, "COEFFICIENT": 1.2},
        "breadcrumbs_ties",
        ELECTED | {"lambda": 1.2},
        {"weight": 1.0, "density": 0.6, "gamma": 0.01},
    ),
    "della linear": Recipe(
        "della_linear",
        {"DENSITY": 0.5, "EPSILON": 0.2, "RESCALE": 0.0, "COEFFICIENT": 0.6},
        "della_linear",
        SUMMED,
        {"weight": 0.6, "density": 0.5, "epsilon": 0.2},
    ),
    "della": Recipe(
        "della",
        {"DENSITY": 0.6, "EPSILON": 0.1, "RESCALE": 0.0, "COEFFICIENT": 1.1},
        "della",
        ELECTED | {"lambda": 1.1},
        {"weight": 1.0, "density": 0.6, "epsilon": 0.1},
    ),
}  # fmt: skip
RANDOM = ("dare_linear", "dare_ties", "della_linear", "della")


class Family(NamedTuple):
    dtype: str
    seed: Path
    experts: dict[str, Path]


CASES = [("float32", name) for name in RECIPES] + [
    ("bfloat16", name) for name in ("task arithmetic", "ties", "dare ties", "breadcrumbs", "breadcrumbs ties")
]


@pytest.fixture(scope="module")
def family(request: pytest.FixtureRequest, save_pico: Callable[..., Path], tmp_path_factory: Any) -> Family:
    """A seed and three experts in the dtype that the test names. In bfloat16 many task-vector entries are equal."""
    root = tmp_path_factory.mktemp(request.param)
    kind: dict[str, Any] = {"dtype": request.param, "tie_word_embeddings": False}
    seed = save_pico(root / "seed", 1, **kind)
    return Family(
        request.param, seed, {n: save_pico(root / n, i, near=seed, **kind) for i, n in enumerate(("b", "a", "c"), 2)}
    )


@pytest.fixture(scope="module")
def sandboxes(family: Family, tmp_path_factory: Any) -> Iterator[Callable[[tuple[str, ...]], Sandbox]]:
    made: dict[tuple[str, ...], Sandbox] = {}

    def sandbox(experts: tuple[str, ...]) -> Sandbox:
        if experts not in made:
            opened = {name: Checkpoint(family.experts[name]) for name in experts}
            bundles = write_bundles(Checkpoint(family.seed), opened, "all", tmp_path_factory.mktemp("bundles"))
            made[experts] = Sandbox(bundles, 60.0, 2.0)
        return made[experts]

    yield sandbox
    for one in made.values():
        one.close()


def theirs(recipe: Recipe, family: Family, folder: Path) -> Checkpoint:
    """What mergekit makes of the recipe. It is given absolute paths."""
    models: list[dict[str, Any]] = []
    for place, name in enumerate(recipe.experts):
        own = dict(recipe.each or {})
        if recipe.theirs == "nuslerp":
            own["weight"] = (0.7, 0.3)[place]
        models.append({"model": str(family.experts[name]), "parameters": own})
    config: dict[str, Any] = {"merge_method": recipe.theirs, "models": models, "dtype": "float32"}
    if recipe.theirs != "linear":
        config["base_model"] = str(family.seed)
    elif recipe.seed_weight is not None:
        models.append({"model": str(family.seed), "parameters": {"weight": recipe.seed_weight}})
    if recipe.parameters:
        config["parameters"] = recipe.parameters
    file = folder / "merge.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    seeded = Path(__file__).with_name("seeded.py")
    start = [seeded] if recipe.theirs in RANDOM else ["-m", "mergekit.scripts.run_yaml"]
    mergekit(*start, file, folder / "out")
    return Checkpoint(folder / "out")


def undecided(recipe: Recipe, vectors: list[torch.Tensor]) -> torch.Tensor:
    """Entries as large as one on the other side of a cut: which of them a method keeps mergekit leaves to its sort."""
    found = torch.zeros(vectors[0].numel(), dtype=torch.bool)
    for vector in vectors:
        size = vector.abs().flatten()
        kept = int(recipe.constants.get("DENSITY", 1.0) * size.numel())
        outliers = int(recipe.constants.get("GAMMA", 0.0) * size.numel())
        ordered = size.sort().values
        for cut in (size.numel() - outliers - kept, size.numel() - outliers):
            if 0 < cut < size.numel() and ordered[cut - 1] == ordered[cut]:
                found |= size == ordered[cut]
    return found.view_as(vectors[0])


@pytest.mark.parametrize(("family", "name"), CASES, indirect=["family"])
def test_a_method_gives_what_mergekit_gives(
    name: str, family: Family, sandboxes: Callable[[tuple[str, ...]], Sandbox], tmp_path: Path
) -> None:
    recipe = RECIPES[name]
    run = sandboxes(recipe.experts).run(program(recipe.method, **recipe.constants), "full")
    assert run.reason == "accepted", run.detail
    seed, merged = Checkpoint(family.seed), theirs(recipe, family, tmp_path)
    experts = [Checkpoint(family.experts[expert]) for expert in recipe.experts]
    assert set(merged.shapes) == set(run.tensors) == set(seed.shapes)
    compared = 0
    for tensor, delta in run.tensors.items():
        base = seed.tensor(tensor).float()
        sure = ~undecided(recipe, [expert.tensor(tensor).float() - base for expert in experts])
        torch.testing.assert_close((base + delta)[sure], merged.tensor(tensor)[sure], rtol=1e-5, atol=1e-6)
        assert delta[sure].abs().max() > 0.0
        compared += int(sure.sum())
    assert compared > (0.9 if family.dtype == "bfloat16" else 0.9999) * sum(one.numel() for one in run.tensors.values())


def test_every_method_is_compared() -> None:
    assert {recipe.method for recipe in RECIPES.values()} == set(METHODS)


def test_slerp_of_whole_weights_is_its_program_when_the_seed_is_zero(
    save_pico: Callable[..., Path], tmp_path: Path
) -> None:
    """mergekit's `slerp` takes whole weights, which a program is not given; of a seed that is zero they are the task vectors."""
    from safetensors.torch import load_file, save_file

    zero = save_pico(tmp_path / "zero", 1, dtype="float32", tie_word_embeddings=False)
    weights = {name: torch.zeros_like(tensor) for name, tensor in load_file(zero / "model.safetensors").items()}
    save_file(weights, zero / "model.safetensors", metadata={"format": "pt"})
    experts = {
        n: save_pico(tmp_path / n, i, dtype="float32", tie_word_embeddings=False) for i, n in ((8, "x"), (9, "y"))
    }
    config = {
        "merge_method": "slerp",
        "base_model": str(experts["x"]),
        "models": [{"model": str(experts["x"])}, {"model": str(experts["y"])}],
        "parameters": {"t": 0.25},
        "dtype": "float32",
    }
    (tmp_path / "merge.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    mergekit("-m", "mergekit.scripts.run_yaml", tmp_path / "merge.yaml", tmp_path / "out")
    merged = Checkpoint(tmp_path / "out")
    opened = {name: Checkpoint(folder) for name, folder in experts.items()}
    bundles = write_bundles(Checkpoint(zero), opened, "all", tmp_path)
    with Sandbox(bundles, 60.0, 2.0) as sandbox:
        run = sandbox.run(program("slerp", T=0.25), "full")
    assert run.reason == "accepted", run.detail
    for name, delta in run.tensors.items():
        torch.testing.assert_close(delta, merged.tensor(name), rtol=1e-5, atol=1e-6)
