"""A merge is the seed plus what the program made of the task vectors: checked tensor by tensor, by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from selfdev_core.config import ControlsConfig
from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.merging.human import human_algorithms
from selfdev_core.merging.merge import merge, write_bundles
from selfdev_core.merging.saved import save_merged
from selfdev_core.merging.scope import in_scope
from selfdev_core.sandbox.client import Sandbox


class Family(NamedTuple):
    seed: Path
    experts: dict[str, Path]


Opened = tuple[Checkpoint, dict[str, Checkpoint], Sandbox]


@contextmanager
def opened(family: Family, scope: Any, scratch: Path) -> Iterator[Opened]:
    seed = Checkpoint(family.seed)
    experts = {name: Checkpoint(folder) for name, folder in family.experts.items()}
    with Sandbox(write_bundles(seed, experts, scope, scratch), 60.0, 2.0) as sandbox:
        yield seed, experts, sandbox


@pytest.fixture(scope="module")
def mlp(pico: Family, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    with opened(pico, "mlp", tmp_path_factory.mktemp("mlp")) as one:
        yield one


@pytest.fixture(scope="module")
def whole(save_pico: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """float32, untied embeddings, in several shards, everything in scope."""
    root = tmp_path_factory.mktemp("whole")
    kind: dict[str, Any] = {"dtype": "float32", "tie_word_embeddings": False, "shard_size": "40KB"}
    seed = save_pico(root / "seed", 1, **kind)
    family = Family(seed, {n: save_pico(root / n, i, near=seed, **kind) for i, n in enumerate(("b", "a", "c"), 2)})
    assert len(list(seed.glob("*.safetensors"))) > 2
    with opened(family, "all", root) as one:
        yield one


def _vectors(seed: Checkpoint, experts: dict[str, Checkpoint], name: str) -> list[torch.Tensor]:
    return [expert.tensor(name).float() - seed.tensor(name).float() for expert in experts.values()]


def _program(label: str, **config: Any) -> str:
    (found,) = [a.source for a in human_algorithms(ControlsConfig.model_validate(config)) if a.label == label]
    return found


@pytest.mark.parametrize("which", ["mlp", "whole"])
def test_task_arithmetic_is_seed_plus_scaled_sum_in_the_seeds_dtype(which: str, request: pytest.FixtureRequest) -> None:
    seed, experts, sandbox = request.getfixturevalue(which)
    record, merged = merge("a-1", _program("task arithmetic 0.3", task_arithmetic=[0.3]), seed, sandbox)
    assert record.verdict.accepted
    assert set(merged) == {name for name in seed.shapes if which == "whole" or ".mlp." in name}
    total = hashlib.sha256()
    for name, tensor in merged.items():
        own = seed.tensor(name)
        expected = (own.float() + 0.3 * sum(_vectors(seed, experts, name))).to(own.dtype)
        assert tensor.dtype == own.dtype == (torch.float32 if which == "whole" else torch.bfloat16)
        assert torch.equal(tensor, expected), name
        assert not torch.equal(tensor, own), name
        total.update(f"{name}:".encode() + tensor.view(torch.uint8).numpy().tobytes())
    assert record.weights_sha256 == total.hexdigest()


def test_experts_reach_the_program_under_their_names_in_their_order(whole: Opened) -> None:
    seed, experts, sandbox = whole
    source = "def merge_models(m, device):\n    assert list(m) == ['b', 'a', 'c'], list(m)\n    return m['c']\n"
    record, merged = merge("a-1", source, seed, sandbox)
    assert record.verdict.accepted, record.verdict.detail
    for name, tensor in merged.items():
        assert torch.equal(tensor, seed.tensor(name) + (experts["c"].tensor(name) - seed.tensor(name)))


def test_ties_is_trim_elect_and_mean(mlp: Opened) -> None:
    seed, experts, sandbox = mlp
    _, merged = merge("a-1", _program("TIES 0.2/1.4", ties=[(0.2, 1.4)]), seed, sandbox)
    for name, tensor in merged.items():
        rows = []
        for vector in _vectors(seed, experts, name):
            flat = vector.flatten().tolist()
            kept = set(sorted(range(len(flat)), key=lambda i: (-abs(flat[i]), i))[: int(0.2 * len(flat))])
            rows.append([x if i in kept else 0.0 for i, x in enumerate(flat)])
        delta = []
        for entries in zip(*rows, strict=True):
            sign = (
                1 if sum(entries) >= 0 else -1
            )  # opposite ones of one size are equally right: as mergekit, the positive
            agreeing = [x for x in entries if x * sign > 0]
            delta.append(1.4 * sum(agreeing) / max(1, len(agreeing)))
        expected = seed.tensor(name).float() + torch.tensor(delta).reshape(tensor.shape)
        torch.testing.assert_close(tensor, expected.to(torch.bfloat16), rtol=1e-2, atol=1e-4)
        assert (tensor != seed.tensor(name)).float().mean() < 0.45


def test_dare_drops_by_chance_and_rescales_the_rest(mlp: Opened) -> None:
    seed, experts, sandbox = mlp
    _, merged = merge("a-1", _program("DARE 0.6/0.8", dare=[(0.6, 0.8)]), seed, sandbox)
    for name, tensor in merged.items():
        generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big"))
        delta = torch.zeros(tensor.shape)
        for vector in _vectors(seed, experts, name):
            delta += vector * (torch.rand(vector.shape, generator=generator) < 0.4) / 0.4
        expected = (seed.tensor(name).float() + 0.8 * delta).to(torch.bfloat16)
        torch.testing.assert_close(tensor, expected, rtol=1e-2, atol=1e-4)


def test_a_merge_changes_nothing_outside_its_scope_and_loads_in_transformers(mlp: Opened, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    seed, _, sandbox = mlp
    _, merged = merge("a-1", _program("task arithmetic 0.5", task_arithmetic=[0.5]), seed, sandbox)
    save_merged(seed, merged, tmp_path / "out")
    saved = Checkpoint(tmp_path / "out")
    assert saved.shapes == seed.shapes and saved.dtypes == seed.dtypes
    for name in seed.shapes:
        same = torch.equal(saved.tensor(name).view(torch.uint8), seed.tensor(name).view(torch.uint8))
        assert same != in_scope(name, "mlp"), name
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("x")["input_ids"]
    state = model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in merged.items())
    assert torch.equal(state["lm_head.weight"], state["model.embed_tokens.weight"])


def test_sharded_models_are_saved_in_their_shards(whole: Opened, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    seed, _, sandbox = whole
    _, merged = merge("a-1", _program("task arithmetic 0.5", task_arithmetic=[0.5]), seed, sandbox)
    save_merged(seed, merged, tmp_path / "out")
    assert [path.name for path in Checkpoint(tmp_path / "out").files] == [path.name for path in seed.files]
    state = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in merged.items())


def test_a_program_that_fails_on_the_real_tensors_gives_a_verdict_and_no_weights(mlp: Opened) -> None:
    seed, _, sandbox = mlp
    source = "import torch\ndef merge_models(m, d):\n    return {}\n"
    for result, reason, word in (
        ("m['alpha'][:1]", "wrong-shape", "mlp"),
        ("torch.full_like(m['alpha'], 3.4028e38)", "not-finite", "overflows torch.bfloat16"),  # finite in float32
    ):
        record, merged = merge("a-1", source.format(result), seed, sandbox)
        assert record.verdict.reason == reason and word in record.verdict.detail, record
        assert merged == {} and record.weights_sha256 == ""


def test_probes_are_slices_of_the_real_task_vectors(mlp: Opened) -> None:
    seed, experts, sandbox = mlp
    vectors = load_file(sandbox.bundles["probes"].path)
    assert set(sandbox.bundles["probes"].shapes) <= set(sandbox.bundles["full"].shapes)
    for name, shape in sandbox.bundles["probes"].shapes.items():
        assert len(shape) == 2 and shape[0] <= 24 and shape[1] <= 40 and shape[0] != shape[1]
        for i, vector in enumerate(_vectors(seed, experts, name)):
            assert torch.equal(vectors[f"{i}:{name}"], vector[: shape[0], : shape[1]])
