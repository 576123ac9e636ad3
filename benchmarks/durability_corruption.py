"""Random damage to stored objects: how much of it is found.

python -m benchmarks.durability_corruption 400 0      corruptions (half in a folder, half on S3), seed
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from selfdev_core.errors import CorruptRecord
from selfdev_core.kinds import KINDS, TASK_RESULTS, TaskResult
from selfdev_core.records import Scorecard, Verdict, digest_of
from selfdev_core.store.artifacts import CHECKPOINTS, ArtifactStore
from selfdev_core.store.checkpoints import CheckpointManifest
from selfdev_core.store.verify import verify

DAMAGES = ("flip", "truncate", "swap", "empty", "foreign")
GROUPS = ("records/scorecards", "records/verdicts", "records/task-results", "records/checkpoints", "blobs")
KEYS = [digest_of(number) for number in range(3)]
_FOREIGN = (b"{}", b"null", b"[" * 9_999, b"\x80\x04K\x01.", b"<Error/>")


class Damage(NamedTuple):
    """One corruption. `read`: refused by whoever reads the object; `verified`: named by `selfdev store verify`."""

    how: str
    name: str
    read: bool
    verified: bool


def corrupt_many(count: int, seed: int = 0) -> dict[str, Any]:
    """So many corruptions, half of them in a folder, half on an S3 service on loopback.

    `detected` counts those that the reader refused and that `verify` named, both.
    """
    with tempfile.TemporaryDirectory(prefix="selfdev-corruption-") as name:
        folder = Path(name)
        found = {"folder": corrupt(str(folder / "store"), folder / "a", count - count // 2, seed)}
        with _s3() as address:
            found["s3"] = corrupt(address, folder / "b", count // 2, seed + 1)
    rows = [{"store": kind} | one._asdict() for kind, damages in found.items() for one in damages]
    good = [row for row in rows if row["read"] and row["verified"]]
    return {
        "corruptions": len(rows),
        "detected": len(good),
        "by_damage": dict(Counter(row["how"] for row in rows)),
        "by_object": dict(Counter("/".join(str(row["name"]).split("/")[:-2]) for row in rows)),
        "by_store": dict(Counter(row["store"] for row in rows)),
        "undetected": [row for row in rows if row not in good],
        "raw": rows,
    }


def corrupt(address: str, folder: Path, count: int, seed: int) -> list[Damage]:
    """Fill a store, damage one object after the other, read it as a new process would, and mend it again; then damage one
    object of each sort at once and verify the store.

    `count` is rounded up to whole rounds of five; every sort of damage meets every sort of object within 25.
    """
    rng = random.Random(seed)
    cache = folder / "cache"
    store, reader = ArtifactStore(address, cache), ArtifactStore(address, cache)
    _fill(store, folder / "models")
    names = [one.name for one in store.objects.list() if one.name != "store.json"]
    found: list[Damage] = []
    for first in range(0, count, len(DAMAGES)):
        spoilt: dict[str, tuple[str, bytes, bytes, bool]] = {}
        for number, group in enumerate(GROUPS):
            how = DAMAGES[(first // len(DAMAGES) + number) % len(DAMAGES)]
            name, neighbour = rng.sample([name for name in names if name.startswith(group)], 2)
            whole, other = store.objects.read(name), store.objects.read(neighbour)
            assert whole is not None and other is not None and whole != other
            damage = damaged(how, whole, other, rng)
            store.objects.write(name, damage)
            spoilt[name] = (how, whole, damage, _refused(reader, name))
            store.objects.write(name, whole)
        for name, (_, _, damage, _) in spoilt.items():
            store.objects.write(name, damage)
        named = {one.name for one in verify(reader, KINDS).damaged}
        for name, (how, whole, _, refused) in spoilt.items():
            store.objects.write(name, whole)
            found.append(Damage(how, name, refused, name in named))
    assert verify(store, KINDS).damaged == (), "the store is not as it was before"
    return found


def damaged(how: str, whole: bytes, neighbour: bytes, rng: random.Random) -> bytes:
    """Bytes that are not `whole`: a bit turned, the end cut off, another object's, none, or something else altogether."""
    if how == "flip":
        at = rng.randrange(len(whole))
        return whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1 :]
    if how == "truncate":
        return whole[: rng.randrange(1, len(whole))]
    if how == "swap":
        return neighbour
    if how == "empty":
        return b""
    return rng.choice((*_FOREIGN, whole + b" ", rng.randbytes(rng.randrange(1, 400))))


def _refused(reader: ArtifactStore, name: str) -> bool:
    """Whether a campaign in a new process refuses the object; what it gets otherwise would be wrong."""
    reader._fetched.clear()
    shutil.rmtree(reader.cache, ignore_errors=True)
    kind, key = name.split("/")[1], name.split("/")[-1].removesuffix(".json")
    try:
        if name.startswith("blobs/"):
            for manifest_key in KEYS:
                manifest = reader.read(CHECKPOINTS, manifest_key, CheckpointManifest)
                if manifest and key in manifest.digests.values():
                    reader.checkpoint_folder(manifest_key)
        elif kind == CHECKPOINTS:
            reader.checkpoint_folder(key)
        else:
            reader.read(kind, key, KINDS[kind])
    except CorruptRecord:
        return True
    return False


def _fill(store: ArtifactStore, folder: Path) -> None:
    for number, key in enumerate(KEYS):
        card = Scorecard(
            subject="é-1e-05",
            split="search",
            questions_sha256=key,
            outcomes=("right", "wrong"),
            tokens=number,
            seconds=1e-05,
        )
        store.write("scorecards", key, card)
        store.write("verdicts", key, Verdict(algorithm_id="a", reason="exception", detail=f"naïve {number}"))
        store.write(
            TASK_RESULTS, key, TaskResult(manifest={"scorecards": [card.model_dump()], "cost": {"tokens": number}})
        )
        model = folder / key[:8]
        model.mkdir(parents=True)
        (model / "config.json").write_text(f'{{"a": {number}}}')
        (model / "model.safetensors").write_bytes(random.Random(number).randbytes(5_000))
        store.add_checkpoint(model, key)


@contextmanager
def _s3() -> Iterator[str]:
    """The address of a new bucket on loopback; the AWS environment of this process points there meanwhile."""
    from s3fs import S3FileSystem

    from benchmarks.durability_kills import s3_service
    from tests.durability.place import aws_environment

    before = dict(os.environ)
    with s3_service() as (endpoint, _):
        os.environ.update(aws_environment(endpoint))
        try:
            S3FileSystem(skip_instance_cache=True).call_s3("create_bucket", Bucket="corruption")
            yield "s3://corruption/store"
        finally:
            os.environ.clear()
            os.environ.update(before)


if __name__ == "__main__":
    print(json.dumps(corrupt_many(*map(int, sys.argv[1:] or ["400", "0"])), indent=1, ensure_ascii=False))
