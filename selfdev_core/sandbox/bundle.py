"""A bundle: what programs are run on. Either a file with the task vectors themselves (the probes: small slices), or a
description of where they come from (a whole model set): the places of the seed's and the experts' tensors in their files.

The sandbox maps the files read-only; the trusted side knows from a bundle which result to expect for which parameter.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from selfdev_core.sandbox.vectors import SMALL, Sources, TaskVectors
from selfdev_core.tensors.mapped import Piece, read_header

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
    """Save `vectors[parameter][expert]` (float32, one shape per parameter) as one safetensors file and describe it."""
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


def describe_bundle(path: Path, sources: Mapping[str, Sources], experts: tuple[str, ...], blocks: int) -> Bundle:
    """Write down (as JSON, `path` must end so) where the task vectors come from; no tensor is read or copied."""
    files: dict[Path, int] = {}

    def place(piece: Piece) -> list[object]:
        number = files.setdefault(piece.path.resolve(), len(files))
        return [number, piece.dtype, list(piece.shape), piece.begin, piece.bytes]

    parameters = {}
    for name, one in sources.items():
        if one.seed is None:
            raise AssertionError(f"{name}: a described bundle needs the seed's tensor")
        parameters[name] = [place(piece) for piece in (one.seed, *(one.experts[expert] for expert in experts))]
    index = {"experts": list(experts), "blocks": blocks, "files": [str(path) for path in files]}
    path.write_text(json.dumps(index | {"parameters": parameters}), encoding="utf-8")
    return Bundle(path, experts, _shapes(sources), blocks)


def read_bundle(path: Path) -> tuple[Bundle, TaskVectors]:
    """The bundle and its task vectors: files are mapped, nothing is read before it is used.

    Raises: OSError or ValueError when a file is not what the bundle says.
    """
    if path.suffix == ".json":
        index = json.loads(path.read_text(encoding="utf-8"))
        files = [Path(name) for name in index["files"]]
        experts = tuple(index["experts"])
        sources = {}
        for name, places in index["parameters"].items():
            seed, *others = (Piece(files[n], dtype, tuple(shape), at, size) for n, dtype, shape, at, size in places)
            sources[name] = Sources(seed, dict(zip(experts, others, strict=True)))
    else:
        head = read_header(path)
        index = json.loads(head.metadata["bundle"])
        experts = tuple(index["experts"])
        sources = {
            name: Sources(None, {expert: head.pieces[f"{i}:{name}"] for i, expert in enumerate(experts)})
            for name in index["parameters"]
        }
    return Bundle(path, experts, _shapes(sources), index["blocks"]), TaskVectors(sources)


def is_big(shapes: Mapping[str, tuple[int, ...]], experts: Collection[str]) -> bool:
    """Whether the task vectors of a bundle are made anew for each program, being too much to keep."""
    return 4 * len(experts) * sum(map(math.prod, shapes.values())) > SMALL


def _shapes(sources: Mapping[str, Sources]) -> dict[str, tuple[int, ...]]:
    return {name: next(iter(one.experts.values())).shape for name, one in sources.items()}
