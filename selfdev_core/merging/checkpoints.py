"""Checkpoints as users have them: Hugging Face folders with safetensors, sharded or not. Never pickle.

Reading is by memory map, one tensor at a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfdev_core.errors import CheckpointError
from selfdev_core.merging.scope import in_scope
from selfdev_core.records import Scope

if TYPE_CHECKING:
    import torch

# Settings that change what a weight means without changing its shape.
_ARCHITECTURE = ("num_attention_heads", "num_key_value_heads", "hidden_act")
_IDENTITY = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
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
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, str] = {}
        self._file_of: dict[str, Path] = {}
        for path in self.files:
            try:
                with safe_open(path, framework="pt") as file:
                    for name in file.keys():  # noqa: SIM118  (not a dict)
                        piece = file.get_slice(name)
                        self.shapes[name] = tuple(piece.get_shape())
                        self.dtypes[name] = piece.get_dtype()
                        self._file_of[name] = path
            except Exception as error:
                raise CheckpointError(f"{path}: is truncated or not a safetensors file: {error}") from error
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
        """One tensor, as stored."""
        from safetensors import safe_open

        with safe_open(self._file_of[name], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
            return tensor

    def by_file(self) -> Iterator[tuple[Path, list[str]]]:
        """Shards with the tensors they hold, in order."""
        for path in self.files:
            yield path, [name for name, where in self._file_of.items() if where == path]

    def sha256(self, checked: Mapping[str, str] | None = None) -> str:
        """Digest of weights, config and tokenizer: the model's identity.

        `checked`: SHA-256 by file name where the files have just been read and compared; those are not read again.
        """
        total = hashlib.sha256()
        for path in (*self.files, *(self.folder / name for name in _IDENTITY)):
            if path.is_file():
                own = (checked or {}).get(path.name) or _digest(path)
                total.update(f"{path.name}:{own}\n".encode())
        return total.hexdigest()


def check_fit(seed: Checkpoint, experts: dict[str, Checkpoint], scope: Scope) -> None:
    """Refuse a set that cannot be merged, before any work starts.

    Raises: CheckpointError listing every mismatch of architecture, tensors, tokenizer, and every non-finite weight.
    """
    import torch

    faults: list[str] = []
    merged = [name for name in seed.shapes if in_scope(name, scope)]
    if not merged:
        faults.append(f"models.scope: {scope!r} matches no parameter of {seed.folder}; try scope: all")
    for label, model in {"seed": seed, **experts}.items():
        for name in seed.shapes if model is seed else merged:
            if name in model.shapes and not bool(torch.isfinite(model.tensor(name).float()).all()):
                faults.append(f"{label} ({model.folder}): {name} holds NaN or infinity")
                break
    own_tokenizer = _digest(seed.folder / "tokenizer.json")
    for label, model in experts.items():
        where = f"models.experts.{label} ({model.folder})"
        kinds = (seed.config.get("model_type"), model.config.get("model_type"))
        if kinds[0] != kinds[1]:
            faults.append(f"{where}: architecture {kinds[1]!r}, the seed's is {kinds[0]!r}")
            continue
        for key in _ARCHITECTURE:
            if key in seed.config and model.config.get(key, seed.config[key]) != seed.config[key]:
                faults.append(f"{where}: {key} is {model.config[key]!r}, the seed's is {seed.config[key]!r}")
        for name, shape in seed.shapes.items():
            if name not in model.shapes:
                faults.append(f"{where}: has no tensor {name}")
                break
            if model.shapes[name] != shape:
                faults.append(f"{where}: {name} has shape {model.shapes[name]}, the seed's is {shape}")
                break
        if _digest(model.folder / "tokenizer.json") != own_tokenizer:
            faults.append(f"{where}: its tokenizer.json differs from the seed's; experts must be fine-tuned siblings")
    if faults:
        raise CheckpointError("the models cannot be merged:\n  " + "\n  ".join(faults))


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


def _digest(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_merged(seed: Checkpoint, merged: dict[str, torch.Tensor], out: Path) -> None:
    """Write the seed with some tensors replaced as a normal Hugging Face folder. The folder appears whole or not at all.

    `merged`: parameter name → tensor of the seed's shape; stored in the seed's dtype.
    Raises: CheckpointError when `out` exists or cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    if out.exists():
        raise CheckpointError(f"{out}: exists already; name a new folder")
    temporary = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        for path in sorted(seed.folder.iterdir()):
            if path.suffix in (".json", ".txt", ".model", ".jinja") and path.is_file() and path.name != "card.json":
                shutil.copy(path, temporary / path.name)
        for path, names in seed.by_file():
            tensors = {}
            for name in names:
                own = seed.tensor(name)
                tensors[name] = merged[name].to(own.dtype).contiguous() if name in merged else own
            save_file(tensors, temporary / path.name, metadata={"format": "pt"})
        temporary.rename(out)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(f"{out}: cannot be written: {error}") from error
