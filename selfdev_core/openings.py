"""The ledger of test-split openings: the test questions answer once per campaign, and every opening is on record.

An opening is a record of its own in a numbered place that is written once, so two campaigns of one name that open at the
same moment both stand in the ledger.
"""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from typing import NamedTuple

from pydantic import Field

from selfdev_core.errors import CorruptRecord
from selfdev_core.records import QuestionSet, Record, digest_of
from selfdev_core.store.artifacts import ArtifactStore

OPENINGS = "openings"


class Opening(Record):
    """Who opened which test questions, when (ISO 8601, UTC), for which winner and which models beside it."""

    when: str
    who: str
    questions_sha256: str
    winner: str
    rivals: tuple[str, ...]
    stopped_after: int = Field(0, description="Iterations after which a budget had ended the search; 0: it was whole.")

    @property
    def asked(self) -> tuple[str, str, tuple[str, ...], int]:
        return (self.questions_sha256, self.winner, self.rivals, self.stopped_after)


class Openings(NamedTuple):
    """Every opening of test questions by one campaign name, oldest first; other questions do not start a new ledger."""

    openings: tuple[Opening, ...] = ()


def _key(campaign: str, number: int) -> str:
    return digest_of(["test-openings", campaign, number])


def record_opening(
    store: ArtifactStore,
    campaign: str,
    questions: QuestionSet,
    winner: str,
    rivals: tuple[str, ...],
    stopped_after: int = 0,
) -> None:
    """Add an opening; the same models on the same questions are the same opening (a resumed run opens nothing new).

    A search that went on after its budget had ended it, and after its test score was known, opens again in any case.
    """
    known = read_openings(store, campaign).openings
    try:
        who = getpass.getuser()
    except (KeyError, OSError):
        who = "unknown"
    when = datetime.now(UTC).isoformat(timespec="seconds")
    made = Opening(
        when=when,
        who=who,
        questions_sha256=questions.sha256,
        winner=winner,
        rivals=rivals,
        stopped_after=stopped_after,
    )
    number = len(known)
    while made.asked not in {one.asked for one in known}:
        known = (*known, store.add(OPENINGS, _key(campaign, number), made))
        number += 1


def read_openings(store: ArtifactStore, campaign: str) -> Openings:
    """Raises CorruptRecord when the ledger was altered: unlike other records it cannot be computed again."""
    found: list[Opening] = []
    try:
        while (one := store.read(OPENINGS, _key(campaign, len(found)), Opening)) is not None:
            found.append(one)
    except CorruptRecord as fault:
        raise CorruptRecord(
            f"{fault}. The ledger of test openings cannot be made anew; restore it, or choose a new name"
        ) from None
    return Openings(tuple(found))
