"""The ledger of test-split openings."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfdev_core.errors import CorruptRecord
from selfdev_core.openings import read_openings, record_opening
from selfdev_core.records import QuestionSet, digest_of
from selfdev_core.store.artifacts import ArtifactStore

QUESTIONS = QuestionSet(split="test", sha256=digest_of("questions"), count=10)


@pytest.fixture
def ledger(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


def test_a_sealed_split_has_no_opening(ledger: ArtifactStore) -> None:
    assert read_openings(ledger, "mine").openings == ()


def test_each_winner_opens_once_however_often_it_is_scored(ledger: ArtifactStore) -> None:
    for winner in ("a-1", "a-1", "a-2", "a-1", "a-2"):
        record_opening(ledger, "mine", QUESTIONS, winner, ("seed", "alpha"))
    openings = read_openings(ledger, "mine").openings
    assert [opening.winner for opening in openings] == ["a-1", "a-2"]
    assert all(opening.rivals == ("seed", "alpha") for opening in openings)
    assert all(opening.who and opening.when.endswith("+00:00") for opening in openings)


def test_other_questions_are_another_opening_in_the_same_ledger(ledger: ArtifactStore) -> None:
    other = QUESTIONS.model_copy(update={"sha256": digest_of("others")})
    for questions in (QUESTIONS, other):
        record_opening(ledger, "mine", questions, "a-1", ())
    assert [one.questions_sha256 for one in read_openings(ledger, "mine").openings] == [QUESTIONS.sha256, other.sha256]
    assert read_openings(ledger, "yours").openings == ()


def test_an_altered_ledger_stops_the_campaign_and_is_not_made_anew(ledger: ArtifactStore) -> None:
    record_opening(ledger, "mine", QUESTIONS, "a-1", ())
    (path,) = (Path(ledger.address) / "records").rglob("*.json")
    path.write_text(path.read_text().replace("a-1", "a-2"))
    with pytest.raises(CorruptRecord, match="restore it, or choose a new name"):
        record_opening(ledger, "mine", QUESTIONS, "a-3", ())
