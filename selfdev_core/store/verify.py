"""Checks every object of a store against its digest: what `selfdev store verify` does."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from selfdev_core.errors import CorruptRecord
from selfdev_core.records import Record
from selfdev_core.store.artifacts import CHECKPOINTS, ArtifactStore, record_name
from selfdev_core.store.checkpoints import CheckpointManifest
from selfdev_core.store.envelope import unpack_body
from selfdev_core.store.filesystem import MARKER, Stored

_RECORD = re.compile(r"records/([a-z-]+)/([0-9a-f]{2})/(\2[0-9a-f]{62})\.json")
_BLOB = re.compile(r"blobs/([0-9a-f]{2})/(\1[0-9a-f]{62})")


class Damage(NamedTuple):
    """An object that is not what its name says, or a checkpoint that misses a part."""

    name: str
    fault: str


class Verified(NamedTuple):
    """What was found: sound objects and bytes, damaged objects, and names that no store writes."""

    sound: int
    size: int
    damaged: tuple[Damage, ...]
    foreign: tuple[str, ...]


def verify(
    store: ArtifactStore, models: Mapping[str, type[Record]], tick: Callable[[str], None] = lambda name: None
) -> Verified:
    """Read everything. `models`: kind → type of its records; a kind that is not in it is checked by digest alone.

    Foreign objects below `records` and `blobs` are damage; elsewhere they are listed only.
    """
    sound = size = 0
    damaged: list[Damage] = []
    foreign: list[str] = []
    blobs: dict[str, int] = {}
    manifests: dict[str, CheckpointManifest] = {}
    for stored in store.objects.list():
        tick(stored.name)
        fault = ""
        if blob := _BLOB.fullmatch(stored.name):
            if store.blob_is_sound(blob[2]):
                blobs[blob[2]] = stored.size
            else:
                fault = "does not match its digest"
        elif record := _RECORD.fullmatch(stored.name):
            fault = _record_fault(store, stored, record[1], record[3], models, manifests)
        elif stored.name.startswith(("records/", "blobs/")):
            fault = "is no object of this store"
        elif stored.name != MARKER:
            foreign.append(stored.name)
            continue
        if fault:
            damaged.append(Damage(stored.name, fault))
        else:
            sound, size = sound + 1, size + stored.size
    for key, manifest in manifests.items():
        missing = [file.name for file in manifest.files if blobs.get(file.sha256) != file.size]
        if missing:
            damaged.append(Damage(record_name(CHECKPOINTS, key), f"misses {', '.join(missing)}"))
    return Verified(sound, size, tuple(damaged), tuple(foreign))


def drop(store: ArtifactStore, damaged: tuple[Damage, ...], keep: tuple[str, ...]) -> tuple[str, ...]:
    """Remove damaged objects, so that they are made again, except records of the kinds in `keep`; returns the removed."""
    kept = tuple(f"records/{kind}/" for kind in keep)
    gone = tuple(damage.name for damage in damaged if not damage.name.startswith(kept))
    for name in gone:
        store.objects.remove(name)
    return gone


def _record_fault(
    store: ArtifactStore,
    stored: Stored,
    kind: str,
    key: str,
    models: Mapping[str, type[Record]],
    manifests: dict[str, CheckpointManifest],
) -> str:
    """What is wrong with a record, or nothing. A sound checkpoint manifest is put into `manifests`."""
    try:
        if kind == CHECKPOINTS:
            manifest = store.read(kind, key, CheckpointManifest)
            if manifest is not None:
                manifests[key] = manifest
        elif kind in models:
            store.read(kind, key, models[kind])
        else:
            data = store.objects.read(stored.name)
            if data is not None:
                unpack_body(data, kind, key, stored.name)
    except CorruptRecord as error:
        return str(error).rpartition(".json: ")[2]
    return ""
