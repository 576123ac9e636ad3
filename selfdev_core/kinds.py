"""The kinds of records in the store and their types; what always stays when a store is cleaned up."""

from __future__ import annotations

from typing import Any

from selfdev_core.budget import BOUNDARIES, Boundary
from selfdev_core.evaluation.questions import QuestionBlock
from selfdev_core.iteration import IterationRecord
from selfdev_core.ledger.events import LEDGER, LedgerSegment
from selfdev_core.openings import OPENINGS, Opening
from selfdev_core.records import GenerateManifest, Merged, Record, Scorecard, TrainManifest, Verdict
from selfdev_core.result import TRANSFERS, TransferResult
from selfdev_core.store.references import REFERENCES, References

TASK_RESULTS = "task-results"


class TaskResult(Record):
    """What a task run of the orchestrator returned, as plain JSON data."""

    manifest: dict[str, Any]


KINDS: dict[str, type[Record]] = {
    "generated": GenerateManifest,
    "verdicts": Verdict,
    "merged": Merged,
    "scorecards": Scorecard,
    "trained": TrainManifest,
    "iterations": IterationRecord,
    TRANSFERS: TransferResult,
    "questions": QuestionBlock,
    OPENINGS: Opening,
    LEDGER: LedgerSegment,
    BOUNDARIES: Boundary,
    REFERENCES: References,
    TASK_RESULTS: TaskResult,
}
ALWAYS_KEPT = ("questions", OPENINGS, LEDGER, BOUNDARIES)
CANNOT_BE_MADE_AGAIN = (OPENINGS,)
