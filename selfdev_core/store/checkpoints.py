"""Checkpoints in the store: a manifest of file names, sizes and digests, and one blob per distinct content.

For use, a checkpoint is fetched into a folder of this machine's cache, every file checked against its digest, and
put there with one rename. A folder that is there is checked once per process before it is used.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from selfdev_core.errors import CorruptRecord, StoreError
from selfdev_core.records import Record
from selfdev_core.store.filesystem import Objects
from selfdev_core.store.patience import READS

Report = Callable[[int, int], None]  # bytes through, bytes in all
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_SUFFIXES = (".safetensors", ".json", ".jinja", ".txt", ".model")


class StoredFile(Record):
    """One file of a checkpoint. A name has no folder and no leading dot."""

    name: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}$")
    size: int = Field(ge=0)
    sha256: Digest


class CheckpointManifest(Record):
    """Files of one checkpoint, by name. Only safetensors, JSON and text: nothing that would have to be unpickled."""

    files: tuple[StoredFile, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [file.name for file in self.files]
        if sorted(set(names)) != names:
            raise ValueError("files must be sorted by name, each once")
        for name in names:
            if not name.endswith(_SUFFIXES):
                raise ValueError(f"{name}: only {', '.join(_SUFFIXES)} files are stored")
        return self

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 by file name."""
        return {file.name: file.sha256 for file in self.files}


def blob_name(sha256: str) -> str:
    return f"blobs/{sha256[:2]}/{sha256}"


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def store_files(objects: Objects, folder: Path, report: Report | None = None) -> CheckpointManifest:
    """Upload what the store has not yet; the manifest that the caller writes last makes the checkpoint appear.

    Raises: StoreError when a file is of a kind that is not stored, or the store cannot be written.
    """
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    try:
        manifest = CheckpointManifest(
            files=tuple(StoredFile(name=p.name, size=p.stat().st_size, sha256=file_sha256(p)) for p in paths)
        )
    except ValueError as error:
        raise StoreError(f"checkpoint {folder}: {error}") from None
    tick = _counter(sum(file.size for file in manifest.files), report)
    for file in manifest.files:
        name = blob_name(file.sha256)
        if objects.size(name) == file.size:
            tick(file.size)
        else:
            objects.upload(name, folder / file.name, tick)
    return manifest


def fetch(objects: Objects, manifest: CheckpointManifest, target: Path, report: Report | None = None) -> None:
    """Make `target` the checkpoint's folder, whole and checked, unless it is there and intact.

    Raises: CorruptRecord naming the blob that is missing or damaged; StoreError when the folder cannot be written.
    """
    if target.is_dir() and damaged_files(target, manifest) == []:
        return
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    tick = _counter(sum(file.size for file in manifest.files), report)
    try:
        temporary.mkdir(parents=True)
        for file in manifest.files:
            _fetch_file(objects, file, temporary / file.name, tick)
        shutil.rmtree(target, ignore_errors=True)
        try:
            os.replace(temporary, target)
        except OSError:
            if not target.is_dir() or damaged_files(target, manifest):
                raise  # not another process that was first with the same content
    except OSError as error:
        raise StoreError(
            f"cache {target.parent}: cannot be written ({error.strerror or error}); free some space in SELFDEV_HOME and "
            "run the same command again"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fetch_file(objects: Objects, file: StoredFile, target: Path, tick: Callable[[int], None]) -> None:
    name = blob_name(file.sha256)
    for _ in range(READS):
        if objects.size(name) != file.size:
            raise CorruptRecord(f"store {objects.address}: {name} ({file.name}) is missing or truncated")
        target.unlink(missing_ok=True)
        objects.download(name, target, file.size, tick)
        if file_sha256(target) == file.sha256:
            return
    raise CorruptRecord(f"store {objects.address}: {name} ({file.name}) does not match its digest")


def damaged_files(folder: Path, manifest: CheckpointManifest) -> list[str]:
    """Names of files that are missing, too many, or do not match their digest."""
    found = {path.name for path in folder.iterdir()}
    wrong = found ^ set(manifest.digests)
    for name, sha256 in manifest.digests.items():
        with suppress(OSError):
            if name in found and file_sha256(folder / name) == sha256:
                continue
        wrong.add(name)
    return sorted(wrong)


def _counter(total: int, report: Report | None) -> Callable[[int], None]:
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        if report is not None:
            report(done, total)

    return tick
