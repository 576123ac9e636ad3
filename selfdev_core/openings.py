"""The ledger of test-split openings: the test questions answer once per campaign, and every opening is on record."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime

from selfdev_core.errors import CorruptRecord
from selfdev_core.records import QuestionSet, Record, digest_of
from selfdev_core.store.artifacts import ArtifactStore


class Opening(Record):
    """Who opened which test questions, when (ISO 8601, UTC), for which winner and which models beside it."""

    when: str
    who: str
    questions_sha256: str
    winner: str
    rivals: tuple[str, ...]


class Openings(Record):
    """Every opening of test questions by one campaign name, oldest first; other questions do not start a new ledger."""

    openings: tuple[Opening, ...] = ()


def _key(campaign: str) -> str:
    return digest_of(["test-openings", campaign])


def record_opening(
    store: ArtifactStore, campaign: str, questions: QuestionSet, winner: str, rivals: tuple[str, ...]
) -> None:
    """Add an opening; the same models on the same questions are the same opening (a resumed run opens nothing new)."""
    known = read_openings(store, campaign)
    asked = (questions.sha256, winner, rivals)
    if any((one.questions_sha256, one.winner, one.rivals) == asked for one in known.openings):
        return
    try:
        who = getpass.getuser()
    except (KeyError, OSError):
        who = "unknown"
    when = datetime.now(UTC).isoformat(timespec="seconds")
    made = Opening(when=when, who=who, questions_sha256=questions.sha256, winner=winner, rivals=rivals)
    store.write("openings", _key(campaign), Openings(openings=(*known.openings, made)))


def read_openings(store: ArtifactStore, campaign: str) -> Openings:
    """Raises CorruptRecord when the ledger was altered: unlike other records it cannot be computed again."""
    try:
        return store.read("openings", _key(campaign), Openings) or Openings()
    except CorruptRecord as fault:
        raise CorruptRecord(
            f"{fault}. The ledger of test openings cannot be made anew; restore it, or choose a new name"
        ) from None
