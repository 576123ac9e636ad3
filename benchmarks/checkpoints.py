"""Checkpoints of a real model's shape with random weights: sharded, bf16, with index, config and tokenizer."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from selfdev_core.miniature.families import family_folder
from selfdev_core.tensors.written import Spec, TensorFile

if TYPE_CHECKING:
    import torch

_NOISE = 1 << 22  # entries of random numbers, repeated from another place for each tensor


class Shape(NamedTuple):
    """Of a Llama or Mistral: what config.json calls these things."""

    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int

    def specs(self) -> dict[str, Spec]:
        small = self.hidden // self.heads * self.kv_heads
        found = {"model.embed_tokens.weight": (self.vocabulary, self.hidden)}
        for layer in range(self.layers):
            block = f"model.layers.{layer}."
            found |= {
                f"{block}self_attn.q_proj.weight": (self.hidden, self.hidden),
                f"{block}self_attn.k_proj.weight": (small, self.hidden),
                f"{block}self_attn.v_proj.weight": (small, self.hidden),
                f"{block}self_attn.o_proj.weight": (self.hidden, self.hidden),
                f"{block}mlp.gate_proj.weight": (self.inner, self.hidden),
                f"{block}mlp.up_proj.weight": (self.inner, self.hidden),
                f"{block}mlp.down_proj.weight": (self.hidden, self.inner),
                f"{block}input_layernorm.weight": (self.hidden,),
                f"{block}post_attention_layernorm.weight": (self.hidden,),
            }
        found |= {"model.norm.weight": (self.hidden,), "lm_head.weight": (self.vocabulary, self.hidden)}
        return {name: Spec("BF16", shape) for name, shape in found.items()}

    def config(self) -> dict[str, object]:
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-05,
            "hidden_act": "silu",
            "tie_word_embeddings": False,
            "dtype": "bfloat16",
        }


TINY_LLAMA = Shape(hidden=2048, inner=5632, layers=22, heads=32, kv_heads=4, vocabulary=32000)  # 1.10 B parameters
MISTRAL_7B = Shape(hidden=4096, inner=14336, layers=32, heads=32, kv_heads=8, vocabulary=32000)  # 7.24 B


def parameters(shape: Shape) -> int:
    return sum(_numel(spec) for spec in shape.specs().values())


def write_model(
    folder: Path, shape: Shape, number: int, shard_bytes: int, near: Path | None = None, own_shards: int | None = None
) -> None:
    """A model of this shape; `near`: a sibling of that one. With `own_shards` only the first so many are the sibling's own,
    and the others are hard links of `near`'s."""
    folder.mkdir(parents=True)
    shards = list(_shards(shape, shard_bytes))
    where = {}
    for i, specs in enumerate(shards):
        name = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        where |= dict.fromkeys(specs, name)
        if near is not None and own_shards is not None and i >= own_shards:
            os.link(near / name, folder / name)
        else:
            _write_shard(folder / name, specs, number, near)
    index = {"metadata": {"total_size": 2 * parameters(shape)}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(shape.config()))
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": False}))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(family_folder("arithmetic") / "seed" / name, folder)


def _shards(shape: Shape, shard_bytes: int) -> Iterator[dict[str, Spec]]:
    held: dict[str, Spec] = {}
    size = 0
    for name, spec in shape.specs().items():
        if held and size + 2 * _numel(spec) > shard_bytes:
            yield held
            held, size = {}, 0
        held[name] = spec
        size += 2 * _numel(spec)
    yield held


def _write_shard(path: Path, specs: dict[str, Spec], number: int, near: Path | None) -> None:
    import torch
    from safetensors import safe_open

    generator = torch.Generator().manual_seed(number)
    noise = torch.randn(_NOISE, generator=generator) * (0.02 if near is None else 0.002)
    with TensorFile(path, specs, {"format": "pt"}) as file:
        for name, spec in specs.items():
            values = _repeated(noise, _numel(spec), generator).to(torch.bfloat16).reshape(spec.shape)
            if near is not None:
                with safe_open(near / path.name, framework="pt") as base:
                    values = base.get_tensor(name) + values
            file.put(name, values)


def _repeated(noise: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    import torch

    start = int(torch.randint(len(noise), (), generator=generator))
    turned = noise.roll(start)
    return turned.repeat(-(-count // len(noise)))[:count]


def _numel(spec: Spec) -> int:
    size = 1
    for extent in spec.shape:
        size *= extent
    return size
