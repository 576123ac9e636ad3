"""Who stands where: leaderboard rows with ranks and intervals, comparisons, and the splits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, get_args

from selfdev_core.records import Scorecard, Split
from selfdev_core.report.words import short
from selfdev_core.result import CampaignResult, Comparison, Contender, Interval
from selfdev_core.statistics.intervals import wilson

SPLITS: tuple[Split, ...] = get_args(Split)
KINDS = {
    "discovered-trained": "trained factory",
    "discovered-untrained": "untrained factory",
    "human": "human-designed",
    "model": "single model",
}


class Cell(NamedTuple):
    """A score on one split. `rank` counts from 1; equal scores share a rank. `otherwise`: the same answers read another way."""

    score: Interval
    rank: int
    of: int
    questions: int
    wrong: float
    unparsable: float
    otherwise: str


class Row(NamedTuple):
    contender: Contender
    label: str
    kind: str
    cells: dict[str, Cell]
    is_winner: bool


class SplitFacts(NamedTuple):
    name: str
    questions: int
    """0 when no scorecard tells."""
    role: str


class Against(NamedTuple):
    """One comparison of the winner. `role` is what the other one is (seed, expert, human or untrained), `name` its own."""

    comparison: Comparison
    label: str
    role: str
    name: str
    split: str
    """Split whose questions were compared; empty when the leaderboard does not tell."""


def label_of(contender: Contender) -> str:
    name = short(contender.label or contender.subject)
    return f"{name} (expert)" if role_of(contender) == "expert" and "expert" not in name.lower() else name


def role_of(contender: Contender) -> str:
    if contender.kind == "model":
        return "seed" if contender.subject == "seed" else "expert"
    return contender.kind.removeprefix("discovered-")


def card_of(contender: Contender, split: str) -> Scorecard | None:
    card: Scorecard | None = {
        "search": contender.search,
        "validation": contender.validation,
        "test": contender.test,
    }[split]
    return card if card is not None and card.outcomes else None


def cells_of(contender: Contender, everyone: Iterable[Contender]) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    for split in SPLITS:
        card = card_of(contender, split)
        if card is None:
            continue
        scores = [other.score for c in everyone if (other := card_of(c, split)) is not None]
        total, right = len(card.outcomes), card.outcomes.count("right")
        cells[split] = Cell(
            score=wilson(right, total),
            rank=1 + sum(score > card.score for score in scores),
            of=len(scores),
            questions=total,
            wrong=card.outcomes.count("wrong") / total,
            unparsable=card.unparsable,
            otherwise=card.otherwise,
        )
    return cells


def rows(result: CampaignResult) -> list[Row]:
    """The leaderboard, best validation score first; those without one follow by search score."""
    made = [
        Row(
            c,
            label_of(c),
            KINDS.get(c.kind, short(c.kind)),
            cells_of(c, result.leaderboard),
            c.subject == result.winner,
        )
        for c in result.leaderboard
    ]

    def order(row: Row) -> tuple[float, float, float]:
        value = [row.cells[s].score.value if s in row.cells else -1.0 for s in ("validation", "search", "test")]
        return -value[0], -value[1], -value[2]

    return sorted(made, key=order)


def winner_of(result: CampaignResult) -> Contender | None:
    return next((c for c in result.leaderboard if result.winner and c.subject == result.winner), None)


def comparisons(result: CampaignResult) -> list[Against]:
    """The winner's comparisons. Both arms can have found the same program: that is said, since training did not find it."""
    by_subject = {c.subject: c for c in result.leaderboard}
    winner = winner_of(result)
    found = []
    for item in result.comparisons:
        other = by_subject.get(item.against)
        role = role_of(other) if other else ("seed" if item.against == "seed" else "other")
        label = short(item.label or item.against)
        if item.against == result.winner:
            role, label = "untrained", f"{label}: found the same program"
        name = short(other.label or other.subject) if other else label
        found.append(Against(item, label, role, name, _split_of(item, winner, other)))
    return found


def _split_of(item: Comparison, winner: Contender | None, other: Contender | None) -> str:
    """The split on which the two scores differ by exactly the comparison's difference; test before validation."""
    for split in ("test", "validation", "search"):
        a, b = (card_of(c, split) if c else None for c in (winner, other))
        if a is None or b is None or a.questions_sha256 != b.questions_sha256:
            continue
        if abs(a.score - b.score - item.difference.value) < 1e-9:
            return split
    return ""


def split_facts(result: CampaignResult) -> list[SplitFacts]:
    roles = {
        "search": "asked of every evaluated program; its scores steer the factory",
        "validation": "asked of the finalists only; picks the winner",
        "test": "asked of the winner and what it is compared with",
    }
    facts = []
    for split in SPLITS:
        sizes = [len(card.outcomes) for c in result.leaderboard if (card := card_of(c, split)) is not None]
        facts.append(SplitFacts(split, max(sizes, default=_configured(result, split)), roles[split]))
    return facts


def _configured(result: CampaignResult, split: str) -> int:
    questions = result.config.get("questions")
    number = questions.get(split) if isinstance(questions, dict) else None
    return number if isinstance(number, int) and number > 0 else 0
