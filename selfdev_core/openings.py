"""The ledger of test-split openings: the test questions answer once per campaign, and every opening is on record."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime

from selfdev_core.errors import CorruptRecord
from selfdev_core.records import QuestionSet, Record, digest_of
from selfdev_core.store.artifacts import ArtifactStore


class Opening(Record):
    when: str
    who: str
    subjects: tuple[str, ...]


class Openings(Record):
    """Every opening of one test set by one campaign name, oldest first."""

    openings: tuple[Opening, ...] = ()


def _key(campaign: str, questions: QuestionSet) -> str:
    return digest_of(["test-openings", campaign, questions.sha256])


def record_opening(store: ArtifactStore, campaign: str, questions: QuestionSet, winner: str) -> None:
    """Add an opening; scoring the same winner again is the same opening (a resumed run opens nothing new)."""
    known = read_openings(store, campaign, questions)
    if any(opening.subjects == (winner,) for opening in known.openings):
        return
    try:
        who = getpass.getuser()
    except (KeyError, OSError):
        who = "unknown"
    made = Opening(when=datetime.now(UTC).isoformat(timespec="seconds"), who=who, subjects=(winner,))
    store.write("openings", _key(campaign, questions), Openings(openings=(*known.openings, made)))


def read_openings(store: ArtifactStore, campaign: str, questions: QuestionSet) -> Openings:
    """Raises CorruptRecord when the ledger was altered: unlike other records it cannot be computed again."""
    try:
        return store.read("openings", _key(campaign, questions), Openings) or Openings()
    except CorruptRecord as fault:
        raise CorruptRecord(
            f"{fault}. The ledger of test openings cannot be made anew; restore it, or choose a new name"
        ) from None
