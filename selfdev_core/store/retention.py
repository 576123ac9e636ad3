"""What of a store is kept and what goes: what `selfdev gc` does.

Kept: whatever a campaign refers to, finished or not; the blobs of kept checkpoints; questions and the ledger of test
openings; whatever is younger than the grace time, since a running campaign may be about to use it. The rest goes.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from selfdev_core.errors import CorruptRecord, StoreError
from selfdev_core.store.artifacts import CHECKPOINTS, ArtifactStore, drop_folder, record_name
from selfdev_core.store.checkpoints import CheckpointManifest, blob_name
from selfdev_core.store.filesystem import Stored
from selfdev_core.store.references import REFERENCES, References

DAY = 86_400.0
_RECORD = re.compile(r"records/([a-z-]+)/[0-9a-f]{2}/([0-9a-f]{64})\.json")


class Retention(NamedTuple):
    """A plan: what goes, what stays, and which campaigns it stays for."""

    going: tuple[Stored, ...]
    staying: tuple[Stored, ...]
    campaigns: tuple[str, ...]
    unfinished: int
    cached: tuple[str, ...]


def plan_retention(
    store: ArtifactStore, now: float, grace_days: float, forget: tuple[str, ...], always: tuple[str, ...]
) -> Retention:
    """Look, change nothing. `now`: seconds since 1970; `forget`: campaigns whose references no longer count;
    `always`: kinds that always stay.

    Raises: StoreError when a campaign's references are damaged, since nothing can then be said to be unused.
    """
    listed = list(store.objects.list())
    kinds = {one.name: (found[1], found[2]) for one in listed if (found := _RECORD.fullmatch(one.name))}
    kept: set[str] = set()
    campaigns: set[str] = set()
    for name, (kind, key) in kinds.items():
        if kind in always:
            kept.add(name)
        elif kind == REFERENCES and (references := _references(store, key)).campaign not in forget:
            campaigns.add(references.campaign)
            kept |= {name, *(record_name(*one) for one in references.records)}
    young = now - grace_days * DAY
    stay: set[str] = {one.name for one in listed if one.modified > young or one.name in kept}
    for name, (kind, key) in kinds.items():
        if kind == CHECKPOINTS and name in stay:
            stay |= _blobs_of(store, key)
    ours = tuple(one for one in listed if one.name.startswith(("records/", "blobs/")))
    checkpoints = {kinds[name][1] for name in stay if name in kinds and kinds[name][0] == CHECKPOINTS}
    cached = store.cache.iterdir() if store.cache.is_dir() else ()
    return Retention(
        going=tuple(one for one in ours if one.name not in stay),
        staying=tuple(one for one in ours if one.name in stay),
        campaigns=tuple(sorted(campaigns)),
        unfinished=store.objects.drop_unfinished(now - DAY, really=False),
        cached=tuple(sorted(p.name for p in cached if p.name not in checkpoints and p.stat().st_mtime < young)),
    )


def carry_out(store: ArtifactStore, plan: Retention, now: float) -> None:
    """Remove what the plan says. Manifests and references go before blobs: a checkpoint is never left without a part."""
    for one in sorted(plan.going, key=lambda one: one.name.startswith("blobs/")):
        store.objects.remove(one.name)
    store.objects.drop_unfinished(now - DAY, really=True)
    for name in plan.cached:
        drop_folder(store.cache / name)


def _references(store: ArtifactStore, key: str) -> References:
    try:
        return store.read(REFERENCES, key, References) or References(campaign="", records=())
    except CorruptRecord as error:
        raise StoreError(
            f"{error}. What its campaign needs is unknown, so nothing is removed; drop it with "
            "`selfdev store verify --drop`, run the campaign again, and then clean up"
        ) from None


def _blobs_of(store: ArtifactStore, key: str) -> set[str]:
    try:
        manifest = store.read(CHECKPOINTS, key, CheckpointManifest)
    except CorruptRecord:
        return set()
    return {blob_name(file.sha256) for file in manifest.files} if manifest else set()
