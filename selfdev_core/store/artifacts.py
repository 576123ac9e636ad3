"""The artifact store: typed JSON records, and checkpoints as manifests and blobs, in a folder or on S3.

`records/<kind>/<2 hex>/<key>.json` holds one record in an envelope with its digest; `blobs/<2 hex>/<sha256>` holds one
file of a checkpoint. A write is complete or absent. A record or checkpoint that does not match its digest, its key or
its type raises CorruptRecord, and the caller computes it again. Nothing is ever unpickled.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from selfdev_core.errors import CorruptRecord
from selfdev_core.home import selfdev_home
from selfdev_core.records import Record
from selfdev_core.store.checkpoints import CheckpointManifest, Report, blob_name, fetch, file_sha256, store_files
from selfdev_core.store.envelope import pack, unpack
from selfdev_core.store.filesystem import open_objects
from selfdev_core.store.patience import READS
from selfdev_core.store.references import REFERENCES, Reference, References

R = TypeVar("R", bound=Record)

CHECKPOINTS = "checkpoints"


def record_name(kind: str, key: str) -> str:
    return f"records/{kind}/{key[:2]}/{key}.json"


class ArtifactStore:
    """A store at a folder or `s3://bucket/prefix`; safe to use from several threads, processes and machines.

    `cache` is the local folder for fetched checkpoints. Raises StoreError, naming the store, when it cannot be written.
    """

    def __init__(self, address: Path | str, cache: Path | None = None) -> None:
        self.objects = open_objects(str(address))
        self.address = self.objects.address
        self.cache = cache or checkpoint_cache()
        self._fetched: dict[str, CheckpointManifest] = {}
        self._referred: set[str] = set()
        self._lock = threading.Lock()

    def read(self, kind: str, key: str, model: type[R]) -> R | None:
        """The record under `key`, or None if there is none.

        Raises: CorruptRecord when the object is truncated, altered, foreign or of another type, however often it is read.
        """
        name = record_name(kind, key)
        for attempt in range(1, READS + 1):
            data = self.objects.read(name)
            if data is None:
                return None
            try:
                return unpack(data, kind, key, model, f"{self.address}/{name}")
            except CorruptRecord:
                if attempt == READS:
                    raise
        raise AssertionError("unreachable")

    def write(self, kind: str, key: str, record: Record) -> None:
        """Store a record; an existing one under the same key is replaced."""
        self.objects.write(record_name(kind, key), pack(kind, key, record))

    def add(self, kind: str, key: str, record: R) -> R:
        """Store a record unless a sound one is there; returns the one that counts from now on.

        So two writers of one key go on with the same record. A damaged one is replaced.
        """
        if self.objects.create(record_name(kind, key), pack(kind, key, record)):
            return record
        try:
            found = self.read(kind, key, type(record))
        except CorruptRecord:
            found = None
        if found is None:
            self.write(kind, key, record)
        return found or record

    def checkpoint_folder(self, sha256: str) -> Path | None:
        """A local folder with a stored checkpoint, every file checked against its digest, or None if there is none.

        Fetches and checks once per process. Raises: CorruptRecord when manifest or blobs are damaged.
        """
        target = self.cache / sha256
        with self._lock:
            if sha256 not in self._fetched or not target.is_dir():
                manifest = self.read(CHECKPOINTS, sha256, CheckpointManifest)
                if manifest is None:
                    return None
                fetch(self.objects, manifest, target)
                os.utime(target)  # in use now: not to be cleaned up
                self._fetched[sha256] = manifest
            return target

    def checkpoint_digests(self, sha256: str) -> dict[str, str]:
        """File name → SHA-256 of a checkpoint that `checkpoint_folder` gave in this process."""
        return self._fetched[sha256].digests

    def add_checkpoint(self, folder: Path, sha256: str, report: Report | None = None) -> None:
        """Store a checkpoint folder under its identity; `report` is told bytes through and bytes in all.

        Blobs come first and the manifest last, so a checkpoint is there whole or not at all.
        """
        manifest = store_files(self.objects, folder, report)
        self.write(CHECKPOINTS, sha256, manifest)

    def drop_checkpoint(self, sha256: str) -> None:
        """Remove a checkpoint that turned out to be damaged, with its damaged blobs, so that it is made again."""
        with self._lock:
            self._fetched.pop(sha256, None)
            drop_folder(self.cache / sha256)
        try:
            manifest = self.read(CHECKPOINTS, sha256, CheckpointManifest)
        except CorruptRecord:
            manifest = None
        self.objects.remove(record_name(CHECKPOINTS, sha256))
        for file in manifest.files if manifest else ():
            if not self.blob_is_sound(file.sha256):
                self.objects.remove(blob_name(file.sha256))

    def blob_is_sound(self, sha256: str) -> bool:
        """Whether a blob is there and matches its name; reads all of it, several times before it is called damaged."""
        name = blob_name(sha256)
        self.cache.mkdir(parents=True, exist_ok=True)
        copy = self.cache / f".check-{os.getpid()}-{threading.get_ident()}-{sha256}"
        for _ in range(READS):
            size = self.objects.size(name)
            if size is None:
                return False
            copy.unlink(missing_ok=True)
            try:
                self.objects.download(name, copy, size, lambda _: None)
                if file_sha256(copy) == sha256:
                    return True
            except FileNotFoundError:
                return False
            finally:
                copy.unlink(missing_ok=True)
        return False

    def refer(self, campaign: str, references: Iterable[Reference]) -> None:
        """Note that a campaign needs these records (`gc` keeps them); a set noted before costs nothing."""
        record = References(campaign=campaign, records=tuple(sorted(set(references))))
        key = record.digest
        if record.records and key not in self._referred:
            self.add(REFERENCES, key, record)
            self._referred.add(key)


def checkpoint_cache() -> Path:
    """Folder of the checkpoints fetched to this machine."""
    return selfdev_home() / "cache" / CHECKPOINTS


def drop_folder(folder: Path) -> None:
    """Remove a fetched checkpoint, or what a killed fetch left: the folder disappears first, then its files."""
    if folder.is_file():
        folder.unlink(missing_ok=True)
        return
    doomed = folder.with_name(f".{folder.name}.dropped")
    with suppress(OSError):
        folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
