"""A merged model on disk: the seed's folder with the bytes of the merged tensors exchanged, shard by shard."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from selfdev_core.errors import CheckpointError
from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.merging.scope import aliases
from selfdev_core.scratch import Scratch
from selfdev_core.tensors.mapped import Piece
from selfdev_core.tensors.written import raw, write_at

if TYPE_CHECKING:
    import torch

# Beside the weights: configs, tokenizers, chat templates, licences. Never code, never pickle; the seed's card is not ours.
_KEPT = (".json", ".txt", ".model", ".jinja")
_ALONE, _INDEX = "model.safetensors", "model.safetensors.index.json"  # transformers wants one of them
_NOT_OURS = ("card.json", _INDEX)
_COPIED_AT_ONCE = 64 << 20


class ModelFolder:
    """A new Hugging Face folder like the seed's: same shards, dtypes, configs and tokenizer. Merged tensors come one by
    one, in any order (`put`); what does not come is the seed's own. A tied weight that the seed stores twice is written twice.

    As a context manager it leaves the whole folder, on disk, or nothing when the block raises, is interrupted or calls
    `discard`.
    Raises (on opening, writing, closing): CheckpointError when the folder exists or cannot be written.
    """

    def __init__(self, seed: Checkpoint, out: Path, card: str = "") -> None:
        if out.exists():
            raise CheckpointError(f"{out}: exists already; name a new folder")
        self.out = out
        self._seed = seed
        self._card = card
        self._scratch = ExitStack()  # the folder beside `out` in which the model comes to be
        self._fds: dict[Path, int] = {}
        self._merged: set[str] = set()
        self._again: dict[str, list[str]] = {}  # name → the other names under which the seed stores it
        for other, name in aliases(seed).items():
            self._again.setdefault(name, []).append(other)
        self._kept = True
        with self._or_nothing():
            self._temporary = self._scratch.enter_context(Scratch(out)).path / out.name
            self._temporary.mkdir()
            for path in seed.files:
                self._fds[path] = os.open(self._temporary / path.name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def put(self, name: str, tensor: torch.Tensor) -> None:
        """Write a merged tensor (the seed's shape and dtype) at its place in its shard."""
        for one in (name, *self._again.get(name, ())):
            piece = self._seed.pieces[one]
            with self._or_nothing():
                write_at(self._fds[piece.path], raw(tensor), piece.begin)
                _send_to_disk(self._fds[piece.path], piece.begin, piece.bytes)
            self._merged.add(one)

    def describe(self, card: str) -> None:
        """The model card, README.md: what a person reads of the model."""
        self._card = card

    def discard(self) -> None:
        """Leave nothing."""
        self._kept = False
        self._close()
        self._scratch.close()

    def _finish(self) -> None:
        with self._or_nothing():
            for path, fd in self._fds.items():
                with path.open("rb") as source:
                    _copy_rest(
                        source.fileno(),
                        fd,
                        [p for n, p in self._seed.pieces.items() if n in self._merged and p.path == path],
                    )
                os.fsync(fd)
            self._close()
            for path in sorted(self._seed.folder.iterdir()):
                wanted = path.suffix in _KEPT or path.name.upper().startswith(("LICENSE", "NOTICE"))
                if wanted and path.is_file() and path.name not in _NOT_OURS:
                    self._write(path.name, path.read_bytes())
            if [path.name for path in self._seed.files] != [_ALONE]:
                self._write(_INDEX, (json.dumps(_index(self._seed), indent=2) + "\n").encode())
            if self._card:
                self._write("README.md", self._card.encode())
            _flush(self._temporary)
            self._temporary.rename(self.out)
            _flush(self.out.parent)
            self._scratch.close()

    def _write(self, name: str, content: bytes) -> None:
        with (self._temporary / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def _or_nothing(self) -> Iterator[None]:
        """Leave nothing when the block raises or is interrupted; what the disk does not take is told as CheckpointError."""
        try:
            yield
        except OSError as error:
            self.discard()
            raise CheckpointError(f"{self.out}: cannot be written: {error}") from error
        except BaseException:
            self.discard()
            raise

    def _close(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is not None:
            self.discard()
        elif self._kept:
            self._finish()


def save_merged(seed: Checkpoint, merged: Mapping[str, torch.Tensor], out: Path) -> None:
    """Write the seed with some tensors replaced, from memory. Raises: CheckpointError when `out` exists or cannot be written.

    `merged`: parameter name → tensor of the seed's shape; stored in the seed's dtype.
    """
    with ModelFolder(seed, out) as folder:
        for name, tensor in merged.items():
            folder.put(name, tensor.to(seed.tensor(name).dtype).contiguous())


def _copy_rest(source: int, out: int, merged: list[Piece]) -> None:
    """Copy a shard (header included) except for the places of merged tensors."""
    size = os.fstat(source).st_size
    at = 0
    for piece in sorted(merged, key=lambda piece: piece.begin):
        _copy(source, out, at, piece.begin)
        at = piece.begin + piece.bytes
    _copy(source, out, at, size)


def _copy(source: int, out: int, first: int, last: int) -> None:
    while first < last:
        data = os.pread(source, min(_COPIED_AT_ONCE, last - first), first)
        if not data:
            raise OSError("the seed's file ended early; was it changed meanwhile?")
        write_at(out, memoryview(data), first)
        first += len(data)


def _send_to_disk(fd: int, begin: int, size: int) -> None:
    """Have the kernel begin to write what was just put there, so that the flush at the end finds little to do."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):  # it is advice
            os.posix_fadvise(fd, begin, size, os.POSIX_FADV_DONTNEED)


def _flush(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _index(seed: Checkpoint) -> dict[str, object]:
    """Which shard holds which tensor, as transformers writes it."""
    total = sum(piece.bytes for piece in seed.pieces.values())
    return {
        "metadata": {"total_size": total},
        "weight_map": {name: piece.path.name for name, piece in sorted(seed.pieces.items())},
    }
