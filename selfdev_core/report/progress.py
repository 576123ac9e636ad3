"""The course of a campaign: what each iteration drew, and the best program after each evaluation, arm beside arm."""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple, get_args

from selfdev_core.records import Arm, Reason
from selfdev_core.result import CampaignResult, Interval, IterationResult
from selfdev_core.sandbox.flags import MEANING
from selfdev_core.statistics.intervals import mean_difference

ARMS: tuple[Arm, ...] = get_args(Arm)


class Round(NamedTuple):
    """One iteration of one arm, as the table shows it. Scores are search scores of samples, invalid counted as 0."""

    result: IterationResult
    top_decile: float
    best: float
    gain: Interval | None
    """Mean of trained minus mean of untrained samples; on trained rows whose untrained twin exists."""


class ReasonRow(NamedTuple):
    reason: str
    counts: tuple[int, ...]


def ordered(result: CampaignResult) -> list[IterationResult]:
    """Iteration by iteration, trained before untrained."""
    return sorted(result.iterations, key=lambda r: (r.iteration, ARMS.index(r.arm)))


def rounds(result: CampaignResult) -> list[Round]:
    """The rows of the iteration table, in the order of `ordered`."""
    twins = {(r.iteration, r.arm): r for r in result.iterations}
    seed = result.config.get("seed")
    made = []
    for item in ordered(result):
        twin = twins.get((item.iteration, "untrained")) if item.arm == "trained" else None
        gain = None
        if twin is not None and item.sample_scores and twin.sample_scores:
            gain = mean_difference(
                item.sample_scores, twin.sample_scores, seed=seed if isinstance(seed, int) and seed >= 0 else 0
            )
        made.append(Round(item, top_decile(item.sample_scores), max(item.sample_scores, default=0.0), gain))
    return made


def top_decile(scores: tuple[float, ...]) -> float:
    """Mean of the best tenth of the samples (at least one)."""
    best = sorted(scores, reverse=True)[: max(1, len(scores) // 10)]
    return sum(best) / len(best) if best else 0.0


def valid_scores(item: IterationResult) -> list[float]:
    """Scores of the valid samples: the zeros of the invalid ones taken out."""
    invalid = round((1 - item.valid_share) * item.samples)
    zeros = [score for score in item.sample_scores if score == 0]
    return zeros[invalid:] + [score for score in item.sample_scores if score != 0]


class Course(NamedTuple):
    """Best search score after each evaluated program of an arm; `starts` is where each iteration begins."""

    best: tuple[float, ...]
    starts: tuple[int, ...]


def course(result: CampaignResult, arm: Arm) -> Course:
    """The best so far, in the order in which an arm's programs were first drawn; each function counts once.

    The untrained arm is cut at the trained arm's number of evaluated programs, as in every comparison of the two.
    """
    scores: list[float] = []
    starts: list[int] = []
    seen: set[str] = set()
    for item in sorted((r for r in result.iterations if r.arm == arm), key=lambda r: r.iteration):
        starts.append(len(scores))
        for candidate in item.candidates:
            evaluated = candidate.representative or candidate.algorithm_id
            if candidate.verdict.accepted and evaluated not in seen:
                seen.add(evaluated)
                scores.append(candidate.score)
    if arm == "untrained" and result.budget is not None:
        scores = scores[: result.budget.trained]
        starts = [start for start in starts if start < len(scores)]
    return Course(tuple(accumulate(scores, max)), tuple(starts))


def reasons(result: CampaignResult) -> list[ReasonRow]:
    """Samples per reason of rejection, one count per `rounds` entry; commonest first, those that never came left out."""
    items = ordered(result)
    known = [name for name in get_args(Reason) if name != "accepted"]
    names = known + sorted({name for item in items for name in item.reasons} - set(known) - {"accepted"})
    made = [ReasonRow(name, tuple(item.reasons.get(name, 0) for item in items)) for name in names]
    return sorted((row for row in made if sum(row.counts)), key=lambda row: -sum(row.counts))


class NoteRow(NamedTuple):
    """How many distinct accepted programs bear a note, and what it says of them."""

    programs: int
    says: str


def notes(result: CampaignResult) -> list[NoteRow]:
    """The notes on accepted programs, in the order of `flags.MEANING`; those that no program bears left out."""
    bearers: dict[str, set[str]] = {}
    for item in result.iterations:
        for candidate in item.candidates:
            for flag in candidate.verdict.flags:
                bearers.setdefault(flag, set()).add(candidate.algorithm_id)
    return [NoteRow(len(bearers[flag]), says) for flag, says in MEANING.items() if flag in bearers]


def notes_on(result: CampaignResult, algorithm_id: str) -> list[str]:
    """What the notes say of one program."""
    same = (c for item in result.iterations for c in item.candidates if c.algorithm_id == algorithm_id)
    found = {flag for candidate in same for flag in candidate.verdict.flags}
    return [says for flag, says in MEANING.items() if flag in found]
