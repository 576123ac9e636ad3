"""Task vectors that are made when a program comes to their parameter: expert − seed, float32, from mapped files.

Nothing of them is kept, so memory does not grow with the model; only those of a model set that is small as a whole are made
once and copied for each program, which saves it milliseconds. Where a file holds task vectors themselves (the probes), they
are copied out of it.

Whether a program has changed those that are not kept: torch counts what is done to them in place, and where it has, they are
made again and compared. For what goes past that counter (`.data`, numpy) one block in sixteen has a sum, which finds changes
to whole tensors. A smaller one may stay unseen; nothing comes of it, since these tensors are the program's own and go with
its call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from selfdev_core.tensors.mapped import MappedFile, Piece, blocks

if TYPE_CHECKING:
    import torch

SMALL = 64 << 20  # bytes of task vectors
_BLOCK = 1 << 16  # entries; the sandbox has one thread, whatever the size
_SUMMED = 16  # one block in so many, beginning with the first


class Sources(NamedTuple):
    """Where the task vectors of one parameter come from: the seed's tensor (None: they lie there ready-made) and one per
    expert."""

    seed: Piece | None
    experts: dict[str, Piece]


class TaskVectors(Mapping[str, "dict[str, torch.Tensor]"]):
    """Parameter name → expert name → task vector, float32 and new at every look.

    Raises (on opening): OSError or ValueError when a file is not what its header said.
    """

    def __init__(self, sources: Mapping[str, Sources]) -> None:
        self._sources = dict(sources)
        pieces = [piece for one in self._sources.values() for piece in (one.seed, *one.experts.values()) if piece]
        self._files = {path: MappedFile(path) for path in dict.fromkeys(piece.path for piece in pieces)}
        self._seeds = {name: None if one.seed is None else self._open(one.seed) for name, one in self._sources.items()}
        self._experts = {
            name: {expert: self._open(piece) for expert, piece in one.experts.items()}
            for name, one in self._sources.items()
        }

        self._sums: dict[str, list[int]] = {}  # expert → sums of some blocks, of the task vectors that were made last
        self._ready: dict[str, dict[str, torch.Tensor]] = {}
        if sum(4 * tensor.numel() for of in self._experts.values() for tensor in of.values()) <= SMALL:
            self._ready = {name: self._made(name) for name in self._sources}

    def _open(self, piece: Piece) -> torch.Tensor:
        return self._files[piece.path].tensor(piece)

    def __getitem__(self, name: str) -> dict[str, torch.Tensor]:
        if name in self._ready:
            return {expert: vector.clone() for expert, vector in self._ready[name].items()}
        return self._made(name)

    def _made(self, name: str) -> dict[str, torch.Tensor]:
        import torch

        made = {
            expert: torch.empty(tensor.shape, dtype=torch.float32) for expert, tensor in self._experts[name].items()
        }
        flat = {expert: tensor.view(-1) for expert, tensor in made.items()}
        self._sums = {expert: [] for expert in made}
        for span, expert, own, base in self._walk(name):
            vector = flat[expert][span].copy_(own)
            if base is not None:
                vector -= base
            if span.start % (_SUMMED * _BLOCK) == 0:
                self._sums[expert].append(_sum(vector))
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)

    def unchanged(self, name: str, given: Mapping[str, torch.Tensor], touched: bool = False) -> bool:
        """Whether the tensors that were made here last, for this parameter, still are what they were. `touched`: torch has
        counted operations in place on them."""
        import torch

        if name in self._ready:
            return all(torch.equal(given[expert].to("cpu"), vector) for expert, vector in self._ready[name].items())
        wanted = {expert: (tensor.shape, torch.float32) for expert, tensor in self._experts[name].items()}
        if any((given[expert].shape, given[expert].dtype) != kind for expert, kind in wanted.items()):
            return False
        flat = {expert: given[expert].detach().reshape(-1).to("cpu") for expert in wanted}
        if touched:
            return self._are(name, flat)
        return all(
            self._sums[expert] == [_sum(tensor[at : at + _BLOCK]) for at in range(0, len(tensor), _SUMMED * _BLOCK)]
            for expert, tensor in flat.items()
        )

    def _are(self, name: str, flat: dict[str, torch.Tensor]) -> bool:
        """Whether flat tensors are this parameter's task vectors: made again and compared, block by block."""
        import torch

        scratch = torch.empty(min(_BLOCK, len(next(iter(flat.values())))))
        for span, expert, own, base in self._walk(name):
            vector = scratch[: own.numel()].copy_(own)
            if base is not None:
                vector -= base
            if not (flat[expert][span].numpy() == vector.numpy()).all():  # torch.equal compares one entry at a time
                return False
        return True

    def _walk(self, name: str) -> Iterator[tuple[slice, str, torch.Tensor, torch.Tensor | None]]:
        """Block by block (where, whose, the expert's own entries, the seed's in float32), so that the seed's are converted once
        for all experts and everything stays in the core's cache."""
        seed = self._seeds[name]
        flat = None if seed is None else seed.view(-1)
        experts = {expert: tensor.view(-1) for expert, tensor in self._experts[name].items()}
        count = next(iter(experts.values())).numel()
        for span in blocks(count, _BLOCK):
            base = None if flat is None else flat[span].float()
            for expert, tensor in experts.items():
                yield span, expert, tensor[span], base

    def expect(self, name: str) -> None:
        """Have the kernel read ahead what this parameter needs."""
        for piece in self._pieces(name):
            self._files[piece.path].expect(piece)

    def forget(self, name: str) -> None:
        """Give back the pages that this parameter needed."""
        for piece in self._pieces(name):
            self._files[piece.path].forget(piece)

    def _pieces(self, name: str) -> list[Piece]:
        one = self._sources[name]
        if name in self._ready:
            return []
        return [piece for piece in (one.seed, *one.experts.values()) if piece is not None]


def _sum(block: torch.Tensor) -> int:
    """Sum of a float32 block's bits, two entries at a time; made while the block is in the core's cache."""
    import numpy

    entries = block.numpy()
    even = len(entries) // 2 * 2
    pairs = int(numpy.add.reduce(entries[:even].view(numpy.int64)))
    return pairs if even == len(entries) else pairs + int(entries[even:].view(numpy.int32)[0])
