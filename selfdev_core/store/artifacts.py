"""The artifact store: typed JSON records and checkpoint folders under one root, addressed by content.

`records/<kind>/<2 hex>/<key>.json` holds one record in an envelope with its digest; `checkpoints/<sha256>/` holds a
Hugging Face folder. A write is complete or absent (temporary name, flush, rename). A record that does not match its
digest, its key or its type raises CorruptRecord, and the caller computes it again. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from selfdev_core.errors import CorruptRecord, StoreError
from selfdev_core.records import Record, digest_of

R = TypeVar("R", bound=Record)
FORMAT = 1


class ArtifactStore:
    """A store in a local folder. Raises StoreError, naming the folder, when it cannot be written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        probe = root / f".probe-{uuid.uuid4().hex}"
        try:
            root.mkdir(parents=True, exist_ok=True)
            probe.write_text("writable")
            probe.unlink()
        except OSError as error:
            with suppress(OSError):
                probe.unlink(missing_ok=True)
            raise StoreError(
                f"store {root}: cannot be written ({error.strerror or error}); give a writable folder with `store:` "
                "in the campaign file or SELFDEV_HOME in the environment"
            ) from error

    def read(self, kind: str, key: str, model: type[R]) -> R | None:
        """The record under `key`, or None if there is none.

        Raises: CorruptRecord when the object is truncated, altered, foreign or of another type.
        """
        path = self._path(kind, key)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise CorruptRecord(f"{path}: cannot be read: {error}") from error
        try:
            envelope = json.loads(text)
            body = envelope["body"]
            if (envelope["format"], envelope["kind"], envelope["key"]) != (FORMAT, kind, key):
                raise CorruptRecord(f"{path}: is another record's content")
            if envelope["sha256"] != digest_of(body):
                raise CorruptRecord(f"{path}: does not match its digest")
            return model.model_validate_json(json.dumps(body))
        except CorruptRecord:
            raise
        except (ValueError, KeyError, TypeError, RecursionError, ValidationError) as error:
            raise CorruptRecord(f"{path}: is not a {kind} record: {str(error).splitlines()[0]}") from error

    def write(self, kind: str, key: str, record: Record) -> None:
        """Store a record; an existing one under the same key is replaced."""
        body = record.model_dump(mode="json")
        envelope = {"format": FORMAT, "kind": kind, "key": key, "sha256": digest_of(body), "body": body}
        self._atomically(self._path(kind, key), lambda path: path.write_text(json.dumps(envelope), encoding="utf-8"))

    def checkpoint_folder(self, sha256: str) -> Path | None:
        """Folder of a stored checkpoint, or None. Its content is checked by `workspace` when it is opened."""
        folder = self.root / "checkpoints" / sha256
        return folder if folder.is_dir() else None

    def add_checkpoint(self, folder: Path, sha256: str) -> Path:
        """Copy a checkpoint folder into the store under its content digest."""
        target = self.root / "checkpoints" / sha256
        if not target.is_dir():
            self._atomically(target, lambda path: shutil.copytree(folder, path))
        return target

    def drop_checkpoint(self, sha256: str) -> None:
        """Remove a checkpoint that turned out to be damaged, so that it is made again."""
        shutil.rmtree(self.root / "checkpoints" / sha256, ignore_errors=True)

    def _path(self, kind: str, key: str) -> Path:
        return self.root / "records" / kind / key[:2] / f"{key}.json"

    def _atomically(self, target: Path, make: Callable[[Path], object]) -> None:
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            make(temporary)
            if temporary.is_file():
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
            try:
                os.replace(temporary, target)
            except OSError:
                if not target.is_dir():
                    raise
                shutil.rmtree(temporary, ignore_errors=True)  # another writer of the same content was first
        except OSError as error:
            if temporary.is_dir():
                shutil.rmtree(temporary, ignore_errors=True)
            else:
                temporary.unlink(missing_ok=True)
            raise StoreError(
                f"store {self.root}: could not write {target.name} ({error.strerror or error}); finished work is kept, "
                "free some space or mend the folder and run the same command again"
            ) from error
