"""Safetensors files mapped read-only: a tensor is a view of the page cache, read from disk when it is first looked at.

Pages that have served can be given back (`forget`), so that a process which walks through a checkpoint of any size holds
no more than what it has in hand.
"""

from __future__ import annotations

import json
import math
import mmap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

# Name in the file's header → name in torch, bytes per entry.
DTYPES = {
    "F64": ("float64", 8), "F32": ("float32", 4), "F16": ("float16", 2), "BF16": ("bfloat16", 2),
    "I64": ("int64", 8), "I32": ("int32", 4), "I16": ("int16", 2), "I8": ("int8", 1),
    "U64": ("uint64", 8), "U32": ("uint32", 4), "U16": ("uint16", 2), "U8": ("uint8", 1), "BOOL": ("bool", 1),
    "F8_E4M3": ("float8_e4m3fn", 1), "F8_E5M2": ("float8_e5m2", 1),
}  # fmt: skip
FLOATS = ("BF16", "F16", "F32", "F64")

_BIG = 4 << 20  # bytes from which on it pays to tell the kernel what is needed


class Piece(NamedTuple):
    """One tensor in a file: dtype as the header names it, and its place, bytes."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    bytes: int


class Header(NamedTuple):
    """Pieces by tensor name, in the order of the file, and the free-form metadata."""

    pieces: dict[str, Piece]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """Where the tensors of a safetensors file lie. Raises ValueError or OSError when it is not one."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= path.stat().st_size - 8:
            raise ValueError("the header is longer than the file")
        head: dict[str, Any] = json.loads(file.read(size))
    metadata = head.pop("__metadata__", None) or {}
    pieces = {}
    for name, one in sorted(head.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = one["data_offsets"]
        pieces[name] = Piece(path, one["dtype"], tuple(one["shape"]), 8 + size + first, last - first)
    return Header(pieces, metadata)


class MappedFile:
    """A file in memory, read-only: writing to one of its tensors ends the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._size = len(self._map)
        self._served: list[Piece] = []  # to be given back together, when they are enough

    def tensor(self, piece: Piece) -> torch.Tensor:
        """The tensor as stored. Raises ValueError for a dtype that torch has not, or a place that is not in the file."""
        import torch

        name, width = DTYPES.get(piece.dtype, ("", 0))
        count = math.prod(piece.shape)
        if not hasattr(torch, name or "-"):
            raise ValueError(f"{self.path}: holds a tensor of dtype {piece.dtype}, which cannot be read")
        if count * width != piece.bytes or not 0 <= piece.begin <= self._size - piece.bytes:
            raise ValueError(f"{self.path}: the header does not describe the file")
        dtype: torch.dtype = getattr(torch, name)
        if count == 0:
            return torch.empty(piece.shape, dtype=dtype)
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        return torch.frombuffer(self._map, dtype=dtype, count=count, offset=piece.begin).reshape(piece.shape)

    def expect(self, piece: Piece) -> None:
        """Have the kernel read ahead what will be needed soon."""
        if piece.bytes >= _BIG:
            self._advise("MADV_WILLNEED", piece.begin, piece.begin + piece.bytes)

    def forget(self, piece: Piece) -> None:
        """Give back the pages of a tensor, at once or with the next ones; they are mapped anew when it is looked at again."""
        self._served.append(piece)
        if sum(one.bytes for one in self._served) < _BIG:
            return
        first = last = 0
        for one in sorted(self._served, key=lambda one: one.begin):
            if one.begin - last > mmap.PAGESIZE:
                self._advise("MADV_DONTNEED", first, last)
                first = one.begin
            last = one.begin + one.bytes
        self._advise("MADV_DONTNEED", first, last)
        self._served.clear()

    def _advise(self, advice: str, first: int, last: int) -> None:
        if last > first and hasattr(mmap, advice):
            first = first // mmap.PAGESIZE * mmap.PAGESIZE
            self._map.madvise(getattr(mmap, advice), first, last - first)


def blocks(count: int, size: int) -> Iterator[slice]:
    """Slices that cover `count` entries."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
