"""A bundle: the task vectors of a model set (or small slices of them, the probes) as one safetensors file.

The sandbox maps it read-only; the trusted side knows from it which result to expect for which parameter.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch


class Bundle(NamedTuple):
    """Experts' names in order, parameter name → shape in order, and the number of transformer blocks."""

    path: Path
    experts: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    blocks: int


def write_bundle(
    path: Path, vectors: dict[str, dict[str, torch.Tensor]], experts: tuple[str, ...], blocks: int
) -> Bundle:
    """Save `vectors[parameter][expert]` (float32, one shape per parameter) and describe the file."""
    from safetensors.torch import save_file

    tensors = {
        f"{i}:{parameter}": by_expert[expert].contiguous()
        for parameter, by_expert in vectors.items()
        for i, expert in enumerate(experts)
    }
    index = {"experts": list(experts), "parameters": list(vectors), "blocks": blocks}
    save_file(tensors, path, metadata={"bundle": json.dumps(index)})
    shapes = {name: tuple(next(iter(by_expert.values())).shape) for name, by_expert in vectors.items()}
    return Bundle(path, experts, shapes, blocks)


def read_bundle(path: Path) -> tuple[Bundle, dict[str, dict[str, torch.Tensor]]]:
    """The bundle and its tensors, memory-mapped: nothing is read before it is used."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        index = json.loads(file.metadata()["bundle"])
        experts = tuple(index["experts"])
        vectors = {
            parameter: {expert: file.get_tensor(f"{i}:{parameter}") for i, expert in enumerate(experts)}
            for parameter in index["parameters"]
        }
    shapes = {name: tuple(next(iter(by_expert.values())).shape) for name, by_expert in vectors.items()}
    return Bundle(path, experts, shapes, index["blocks"]), vectors
