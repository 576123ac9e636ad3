"""The proof of weights: sums that survive fusing, cutting and padding, and nothing else."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from selfdev_core.engines.vllm.client import Shares, Tensors
from selfdev_core.engines.vllm.inside.selfdev_in_vllm import Weights, _read_back, _sum
from selfdev_core.engines.vllm.proof import faults, total_of
from selfdev_core.engines.vllm.weights import Held, Unproved
from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.merging.scope import merged_names


@pytest.fixture
def files() -> dict[str, torch.Tensor]:
    """A block of a model, as its checkpoint has it."""
    torch.manual_seed(0)
    shapes = {
        "model.embed_tokens.weight": (12, 8),
        "model.layers.0.self_attn.q_proj.weight": (8, 8),
        "model.layers.0.self_attn.k_proj.weight": (4, 8),
        "model.layers.0.self_attn.v_proj.weight": (4, 8),
        "model.layers.0.mlp.gate_proj.weight": (6, 8),
        "model.layers.0.mlp.up_proj.weight": (6, 8),
        "model.layers.0.mlp.down_proj.weight": (8, 6),
        "model.layers.0.input_layernorm.weight": (8,),
    }
    return {name: torch.randn(shape, dtype=torch.bfloat16) for name, shape in shapes.items()}


def _engine(files: dict[str, torch.Tensor], workers: int = 1) -> list[dict[str, int]]:
    """The parameters as vLLM would hold them: fused, cut over workers, the vocabulary padded."""
    part = "model.layers.0."
    q, k, v = (files[f"{part}self_attn.{x}_proj.weight"].chunk(workers) for x in "qkv")
    gate, up = (files[f"{part}mlp.{x}_proj.weight"].chunk(workers) for x in ("gate", "up"))
    down = files[f"{part}mlp.down_proj.weight"].chunk(workers, dim=1)
    padded = torch.cat([files["model.embed_tokens.weight"], torch.zeros(4, 8, dtype=torch.bfloat16)]).chunk(workers)
    return [
        {
            "model.embed_tokens.weight": _sum(padded[w]),
            f"{part}self_attn.qkv_proj.weight": _sum(torch.cat([q[w], k[w], v[w]])),
            f"{part}mlp.gate_up_proj.weight": _sum(torch.cat([gate[w], up[w]])),
            f"{part}mlp.down_proj.weight": _sum(down[w]),
            f"{part}input_layernorm.weight": _sum(files[f"{part}input_layernorm.weight"]),
        }
        for w in range(workers)
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_vllm_makes_of_a_checkpoint_has_its_sums(files: dict[str, torch.Tensor], workers: int) -> None:
    sums = {name: _sum(tensor) for name, tensor in files.items()}
    assert faults(total_of(_engine(files, workers)), sums) == []
    assert faults(total_of(_engine(files, workers)), sums | {"model.layers.0.self_attn.rotary_emb.inv_freq": 5}) == []


@pytest.mark.parametrize("tied", [{"lm_head.weight"}, set()])
def test_a_tied_head_counts_once(files: dict[str, torch.Tensor], tied: set[str]) -> None:
    sums = {name: _sum(tensor) for name, tensor in files.items()}
    (engine,) = _engine(files)
    embedding = sums["model.embed_tokens.weight"]
    assert faults(engine, sums | dict.fromkeys(tied, embedding)) == []  # the engine has no head of its own
    assert faults(engine | {"lm_head.weight": embedding}, sums) == []  # it has one, the files do not
    assert faults(engine | {"lm_head.weight": embedding + 1}, sums) == ["lm_head.weight"]  # a stale one


@pytest.mark.parametrize("stale", [False, True])
def test_a_merge_of_the_embedding_is_proved_in_a_tied_head_that_the_seed_stores_too(
    pico: Any, tmp_path: Path, stale: bool
) -> None:
    embedding, head = "model.embed_tokens.weight", "lm_head.weight"
    seed = Path(shutil.copytree(pico.seed, tmp_path / "seed"))
    own = load_file(seed / "model.safetensors")
    save_file(own | {head: own[embedding].clone()}, seed / "model.safetensors", metadata={"format": "pt"})
    merged = {name: own[name] * 2 for name in merged_names(Checkpoint(seed), "all")}
    save_file(merged, tmp_path / "merged.safetensors")

    class Engine:
        """Has one weight for both, and reports it under both names; a stale one goes on with the head of before."""

        url, holds = "unix://engine", dict[str, torch.Tensor]()

        def load(self, folder: Path) -> None:
            before = self.holds.get(head)
            self.holds |= load_file(folder / "model.safetensors")
            self.holds[head] = before if stale and before is not None else self.holds[embedding]

        def forget_prefixes(self) -> None:
            pass

        def sums(self) -> Shares:
            return Shares([{name: _sum(tensor) for name, tensor in self.holds.items()}], "cpu", "bfloat16")

        def sums_of(self, folder: Path) -> Tensors:
            found = load_file(folder / "model.safetensors")
            return Tensors({k: _sum(t) for k, t in found.items()}, {k: list(t.shape) for k, t in found.items()})

    engine: Any = Engine()
    held = Held(engine, seed, tmp_path)
    engine.load(seed)
    held.prove_new()
    with pytest.raises(Unproved, match="outside blocks differ") if stale else nullcontext():
        held.hold(seed, tmp_path / "merged.safetensors")


def test_one_bit_in_one_tensor_names_its_block(files: dict[str, torch.Tensor]) -> None:
    sums = {name: _sum(tensor) for name, tensor in files.items()}
    name = "model.layers.0.mlp.up_proj.weight"
    changed = files[name].clone()
    changed.view(torch.int16)[3, 3] ^= 1
    assert faults(_engine(files | {name: changed})[0], sums) == ["block 0 mlp"]
    assert faults(_engine(files | {name: changed})[0], sums, ("mlp",)) == []


def test_swapped_values_cancel_nothing(files: dict[str, torch.Tensor]) -> None:
    """Sums of bits alone would not see that a went up by what b went down."""
    one = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float32)
    bits = one.view(torch.int32).clone()
    bits[0] += 1
    bits[1] -= 1
    assert _sum(bits.view(torch.float32)) != _sum(one) == _sum(one.flip(0))
    assert _sum(torch.tensor([0.0, -0.0])) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_weight_is_read_back_exactly_through_its_layer(dtype: torch.dtype) -> None:
    weight = torch.randn(24, 300, dtype=dtype)

    class Method:
        def apply(self, layer: Any, x: torch.Tensor, bias: None) -> torch.Tensor:
            return torch.nn.functional.linear(x, weight)

    class Layer:
        input_size_per_partition, quant_method = 300, Method()

    assert _read_back(Layer(), dtype) == _sum(weight)


def test_checkpoints_differ_in_whatever_makes_tokens_or_ends_answers(pico: Any, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(pico.seed, other)

    def differs() -> list[str]:
        found: list[str] = Weights.selfdev_differs(None, str(pico.seed), str(other))["differs"]
        return found

    generation = json.loads((other / "generation_config.json").read_text())
    (other / "generation_config.json").write_text(json.dumps(generation | {"eos_token_id": [1], "temperature": 0.7}))
    assert differs() == []  # nothing that a campaign's requests would leave to it
    (other / "generation_config.json").write_text(json.dumps(generation | {"eos_token_id": [5, 1]}))
    assert differs() == ["generation_config.json"]
    (other / "generation_config.json").unlink()  # then config.json says it
    assert differs() == []
    (other / "merges.txt").write_text("a b\n")
    (other / "added_tokens.json").write_text('{"<x>": 300}')
    assert differs() == ["added_tokens.json", "merges.txt"]
    (other / "tokenizer.model").write_bytes(b"\xff\x00")
    assert differs() == ["added_tokens.json", "merges.txt", "tokenizer.model"]
