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
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "adapter_config.json",
)


class Checkpoint:
    """One model folder, opened and checked.

    Raises (on opening): CheckpointError naming the folder or file that is missing, truncated, unreadable, malformed or not
    safetensors.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors import safe_open

        self.folder = folder
        try:
            if not folder.is_dir():
                raise CheckpointError(f"{folder}: no such checkpoint folder")
            if not (folder / "config.json").exists():
                raise CheckpointError(f"{folder}: has no config.json; give a Hugging Face model folder")
        except OSError as error:
            raise _unreadable(folder, error) from error
        self.config = _read_json(folder / "config.json")
        self.blocks = _blocks(self.config, folder / "config.json")
        self.files = _weight_files(folder)
        if not self.files:
            raise CheckpointError(f"{folder}: has no .safetensors file (pickled weights are never loaded)")
        self.pieces: dict[str, Piece] = {}
        for path in self.files:
            try:
                path.open("rb").close()  # safetensors says of what it may not read that it is not there
                # checks the whole header and the file's size, without loading torch
                with safe_open(path, framework="np") as file:
                    file.metadata()
                self.pieces.update(read_header(path).pieces)
            except OSError as error:
                raise _unreadable(path, error) from error
            except Exception as error:
                raise CheckpointError(f"{path}: is truncated or not a safetensors file: {error}") from error
        self.shapes = {name: piece.shape for name, piece in self.pieces.items()}
        self.dtypes = {name: piece.dtype for name, piece in self.pieces.items()}
        self._mapped: dict[Path, MappedFile] = {}
        missing = sorted(set(_index(folder)) - set(self.shapes))
        if missing:
            raise CheckpointError(
                f"{folder}: tensor {missing[0]!r} is in the index but in no shard (incomplete download?)"
            )

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


def open_set(seed: Path, experts: Mapping[str, Path]) -> tuple[Checkpoint, dict[str, Checkpoint]]:
    """The seed and the experts, opened. Raises: CheckpointError naming everything that keeps one of them from being opened."""
    found: dict[str, Checkpoint] = {}
    faults = []
    for name, folder in {"": seed, **experts}.items():
        try:
            found[name] = Checkpoint(folder)
        except CheckpointError as error:
            faults.append(str(error))
    if faults:
        raise CheckpointError("\n".join(faults))
    return found.pop(""), found


def _weight_files(folder: Path) -> tuple[Path, ...]:
    """The shards that the index names and that are there, or the one file; other weights in the folder are no part of it."""
    found = {path.name: path for path in sorted(folder.glob("*.safetensors"))}
    shards = set(_index(folder).values())
    if shards:
        return tuple(path for name, path in found.items() if name in shards)
    return (found["model.safetensors"],) if "model.safetensors" in found else tuple(found.values())


def _index(folder: Path) -> dict[str, str]:
    """Tensor name → shard, as the index says; empty when there is none."""
    path = folder / "model.safetensors.index.json"
    if not path.exists():
        return {}
    found = _read_json(path).get("weight_map")
    if not found or not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
        raise CheckpointError(f"{path}: is not a safetensors index: it has no weight_map of names; fetch it again")
    return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: is not JSON: {error}; fetch it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: is not a JSON object; fetch it again")
    return content


def _blocks(config: dict[str, Any], where: Path) -> int:
    """Number of transformer blocks; 0 where config.json does not say."""
    for name in ("num_hidden_layers", "n_layer"):
        if name in config:
            value = config[name]
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise CheckpointError(f"{where}: {name} is {value!r}; put the number of the model's blocks there")
            return value
    return 0


def file_digest(path: Path) -> str:
    """SHA-256; empty when there is no such file. Raises: CheckpointError when it cannot be read."""
    if not path.is_file():
        return ""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(
        f"{path}: cannot be read ({error.strerror or error}); this user must be able to read all of the model"
    )
