"""Checkpoints as users have them: Hugging Face folders with safetensors, sharded or not. Never pickle.

Reading is by memory map, one tensor at a time. `fit.py` says whether several fit together, `saved.py` writes a merged one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfdev_core.errors import CheckpointError
from selfdev_core.tensors.mapped import MappedFile, Piece, read_header

if TYPE_CHECKING:
    import torch

_IDENTITY = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "adapter_config.json",
)


class Checkpoint:
    """One model folder, opened and checked.

    Raises (on opening): CheckpointError naming the folder or file that is missing, truncated or not safetensors.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors import safe_open

        self.folder = folder
        if not folder.is_dir():
            raise CheckpointError(f"{folder}: no such checkpoint folder")
        try:
            self.config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CheckpointError(f"{folder}: has no config.json; give a Hugging Face model folder") from None
        except ValueError as error:
            raise CheckpointError(f"{folder / 'config.json'}: is not JSON: {error}") from error
        if not isinstance(self.config, dict):
            raise CheckpointError(f"{folder / 'config.json'}: is not a JSON object")
        self.files = _weight_files(folder)
        if not self.files:
            raise CheckpointError(f"{folder}: has no .safetensors file (pickled weights are never loaded)")
        self.pieces: dict[str, Piece] = {}
        for path in self.files:
            try:
                with safe_open(path, framework="pt") as file:  # checks the whole header and the file's size
                    file.metadata()
                self.pieces.update(read_header(path).pieces)
            except Exception as error:
                raise CheckpointError(f"{path}: is truncated or not a safetensors file: {error}") from error
        self.shapes = {name: piece.shape for name, piece in self.pieces.items()}
        self.dtypes = {name: piece.dtype for name, piece in self.pieces.items()}
        self._mapped: dict[Path, MappedFile] = {}
        index = folder / "model.safetensors.index.json"
        if index.is_file():
            missing = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"]) - set(self.shapes))
            if missing:
                raise CheckpointError(
                    f"{folder}: tensor {missing[0]!r} is in the index but in no shard (incomplete download?)"
                )

    @property
    def blocks(self) -> int:
        """Number of transformer blocks."""
        return int(self.config.get("num_hidden_layers", self.config.get("n_layer", 0)))

    def tensor(self, name: str) -> torch.Tensor:
        """One tensor, as stored: a view of the file, which nothing may write to.

        Raises: CheckpointError when torch has no such dtype.
        """
        piece = self.pieces[name]
        try:
            return self._map(piece.path).tensor(piece)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{piece.path}: {name} cannot be read: {error}") from error

    def forget(self, name: str) -> None:
        """Give the memory of a tensor back that has served; it may be looked at again."""
        piece = self.pieces[name]
        self._map(piece.path).forget(piece)

    def _map(self, path: Path) -> MappedFile:
        if path not in self._mapped:
            self._mapped[path] = MappedFile(path)
        return self._mapped[path]

    def by_file(self) -> Iterator[tuple[Path, list[str]]]:
        """Shards with the tensors they hold, in order."""
        for path in self.files:
            yield path, [name for name, piece in self.pieces.items() if piece.path == path]

    @property
    def identity(self) -> tuple[Path, ...]:
        """The files that make the model what it is, whether they are there or not."""
        return (*self.files, *(self.folder / name for name in _IDENTITY))

    def sha256(self, checked: Mapping[str, str] | None = None) -> str:
        """Digest of weights, config and tokenizer: the model's identity.

        `checked`: SHA-256 by file name where the files have just been read and compared; those are not read again.
        """
        total = hashlib.sha256()
        for path in self.identity:
            if path.is_file():
                own = (checked or {}).get(path.name) or file_digest(path)
                total.update(f"{path.name}:{own}\n".encode())
        return total.hexdigest()


def _weight_files(folder: Path) -> tuple[Path, ...]:
    """The shards that the index names and that are there, or the one file; other weights in the folder are no part of it."""
    found = {path.name: path for path in sorted(folder.glob("*.safetensors"))}
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{index}: is not a safetensors index: {error}") from error
        return tuple(path for name, path in found.items() if name in shards)
    return (found["model.safetensors"],) if "model.safetensors" in found else tuple(found.values())


def file_digest(path: Path) -> str:
    """SHA-256; empty when there is no such file."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
