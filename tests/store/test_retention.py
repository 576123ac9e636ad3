"""What `selfdev gc` keeps and what goes, and what `selfdev store verify` finds, in a folder and on S3."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from selfdev_core.errors import StoreError
from selfdev_core.kinds import ALWAYS_KEPT, CANNOT_BE_MADE_AGAIN, KINDS
from selfdev_core.openings import record_opening
from selfdev_core.records import QuestionSet, Verdict, digest_of
from selfdev_core.store.artifacts import CHECKPOINTS, ArtifactStore, record_name
from selfdev_core.store.checkpoints import blob_name
from selfdev_core.store.references import REFERENCES, Reference
from selfdev_core.store.retention import Retention, carry_out, plan_retention
from selfdev_core.store.verify import drop, verify

USED, UNUSED, SHARED = digest_of("used"), digest_of("unused"), digest_of("shared")
LATER = time.time() + 3600
Open = Callable[[], ArtifactStore]


def _plan(store: ArtifactStore, *forget: str, days: float = 0.0) -> Retention:
    return plan_retention(store, LATER, days, forget, ALWAYS_KEPT)


def _names(store: ArtifactStore) -> set[str]:
    return {one.name for one in store.objects.list()}


@pytest.fixture
def store(open_store: Open, tmp_path: Path) -> ArtifactStore:
    """Two campaigns that share a verdict; a used and an unused checkpoint that share their configuration."""
    made = open_store()
    for key in (USED, UNUSED):
        made.write("verdicts", key, Verdict(algorithm_id=key[:8], reason="accepted"))
        folder = tmp_path / key
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_text(key)
        made.add_checkpoint(folder, key)
    made.write("verdicts", SHARED, Verdict(algorithm_id="shared", reason="accepted"))
    made.refer("one", [Reference("verdicts", USED), Reference("verdicts", SHARED)])
    made.refer("one", [Reference(CHECKPOINTS, USED), Reference("scorecards", digest_of("not made yet"))])
    made.refer("two", [Reference("verdicts", SHARED)])
    record_opening(made, "one", QuestionSet(split="test", sha256=USED, count=1), "a", ())
    return made


def test_only_what_no_campaign_refers_to_goes(store: ArtifactStore) -> None:
    before, plan = _names(store), _plan(store)
    assert plan.campaigns == ("one", "two")
    gone = {record_name("verdicts", UNUSED), record_name(CHECKPOINTS, UNUSED), blob_name(digest_of_text(UNUSED))}
    assert {one.name for one in plan.going} == gone
    assert _names(store) == before
    carry_out(store, plan, LATER)
    assert _names(store) == before - gone
    assert store.checkpoint_folder(USED) is not None and store.checkpoint_folder(UNUSED) is None
    assert verify(store, KINDS).damaged == ()


def digest_of_text(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def test_what_is_young_stays(store: ArtifactStore) -> None:
    assert _plan(store, days=1.0).going == ()


def test_a_forgotten_campaign_keeps_what_others_share_and_the_ledger(store: ArtifactStore) -> None:
    plan = _plan(store, "one")
    assert plan.campaigns == ("two",)
    carry_out(store, plan, LATER)
    left = {name.split("/")[1] for name in _names(store) if name.startswith("records/")}
    assert left == {"verdicts", REFERENCES, "openings"}
    assert store.read("verdicts", SHARED, Verdict) is not None and store.read("verdicts", USED, Verdict) is None
    assert not [name for name in _names(store) if name.startswith("blobs/")]


def test_fetched_checkpoints_that_are_not_kept_leave_the_cache(store: ArtifactStore) -> None:
    assert store.checkpoint_folder(USED) is not None and store.checkpoint_folder(UNUSED) is not None
    plan = _plan(store)
    assert plan.cached == (UNUSED,)
    carry_out(store, plan, LATER)
    assert [path.name for path in store.cache.iterdir()] == [USED]


def test_nothing_is_unused_while_a_campaigns_references_are_damaged(store: ArtifactStore) -> None:
    name = next(name for name in sorted(_names(store)) if f"/{REFERENCES}/" in name)
    store.objects.write(name, b"{}")
    with pytest.raises(StoreError, match="nothing is removed"):
        _plan(store)


def test_references_are_written_once(store: ArtifactStore, open_store: Open) -> None:
    before = _names(store)
    open_store().refer("two", [Reference("verdicts", SHARED), Reference("verdicts", SHARED)])
    store.refer("two", [])
    assert _names(store) == before


def test_damage_is_listed_and_dropped_but_the_ledger_is_left(store: ArtifactStore) -> None:
    ledger = next(name for name in _names(store) if "/openings/" in name)
    wrong = {record_name("verdicts", USED), blob_name(digest_of_text(UNUSED)), ledger, "records/stray.json"}
    for name in wrong:
        store.objects.write(name, b"junk")
    store.objects.write("notes.txt", b"somebody else's")
    found = verify(store, KINDS)
    assert {damage.name for damage in found.damaged} == wrong | {record_name(CHECKPOINTS, UNUSED)}
    assert found.foreign == ("notes.txt",)
    gone = drop(store, found.damaged, CANNOT_BE_MADE_AGAIN)
    assert set(gone) == (wrong | {record_name(CHECKPOINTS, UNUSED)}) - {ledger}
    assert [damage.name for damage in verify(store, KINDS).damaged] == [ledger]
    assert "notes.txt" in _names(store)
