"""The outcome of a campaign, whole: what the report, `selfdev show` and `selfdev export` read.

It is assembled from stage records at the end of a campaign (and, partly filled, after every iteration).
"""

from __future__ import annotations

from pydantic import Field

from selfdev_core.records import Arm, Candidate, Cost, Record, Scorecard, Verdict
from selfdev_core.schedules import TemperatureConfig

TRANSFERS = "transfers"  # kind of records in the store


class Interval(Record):
    """A point estimate with its interval, all on the 0 to 1 scale (differences: −1 to 1)."""

    value: float
    low: float
    high: float
    level: float = 0.95


class IterationResult(Record):
    """One round of one arm. All shares are of the samples drawn, duplicates counted as often as drawn."""

    arm: Arm
    iteration: int = Field(description="1, 2, …")
    temperature: float
    samples: int
    valid_share: float
    distinct_share: float = Field(description="Distinct algorithm ids / samples.")
    distinct_functions: int = Field(description="Groups of valid programs with one fingerprint.")
    evaluated: int = Field(description="Programs evaluated in this round (not met before in this arm).")
    sample_scores: tuple[float, ...] = Field(description="Search score per sample in order drawn; invalid counts as 0.")
    reasons: dict[str, int] = Field(description="Samples per reason of rejection (accepted left out).")
    candidates: tuple[Candidate, ...]
    factory_sha256: str
    pairs: int = Field(0, description="Preference pairs that trained the next factory; 0 in the untrained arm.")
    dpo_skipped: bool = False
    dpo_losses: tuple[float, ...] = ()
    dpo_note: str = ""

    @property
    def mean_score(self) -> float:
        return sum(self.sample_scores) / len(self.sample_scores) if self.sample_scores else 0.0


class Contender(Record):
    """One row of the leaderboard: a discovered program, a human-designed one, or a plain model."""

    subject: str = Field(description="Algorithm id, or `seed` / the expert's name for plain models.")
    label: str = Field(description="What a person calls it, e.g. `task arithmetic 0.6`.")
    kind: str = Field(description="discovered-trained, discovered-untrained, human, or model.")
    source: str = Field("", description="Program text; empty for plain models.")
    search: Scorecard | None = None
    validation: Scorecard | None = None
    test: Scorecard | None = Field(None, description="Only for the winner and what it is compared with.")


class Comparison(Record):
    """Winner against another on the same questions: paired difference in accuracy, with a 95 % interval."""

    against: str
    label: str
    difference: Interval
    p_value: float = Field(description="Exact McNemar test, two-sided.")


class AblationArm(Record):
    """A whole search of its own that differs from the trained arm in its temperature schedule only.

    It is cut to the trained arm's number of evaluated programs, in the order drawn, before its best is picked, by the rule
    that picks the campaign's winner. No test question is asked of it.
    """

    name: str
    schedule: TemperatureConfig
    iterations: tuple[IterationResult, ...] = Field(description="Without their candidates, which the store has.")
    evaluated: int = Field(description="Programs evaluated, after the cut.")
    best: Contender | None = Field(
        None, description="Best validation score among its finalists; None without a program."
    )


class TransferRow(Contender):
    """One algorithm or plain model on another model set. A program that cannot merge this set has a verdict and no score."""

    verdict: Verdict | None = Field(None, description="Of a program on this set's tensors; None for plain models.")


class TransferResult(Record):
    """The campaign's finalists, unchanged, on another model set, beside human-designed algorithms tuned there.

    Nothing about a discovered program is chosen here: on the test split it is the campaign's own winner.
    """

    name: str
    models: dict[str, object] = Field(description="Of the configuration, as plain data.")
    questions: dict[str, object] = Field(description="Of the configuration, as plain data.")
    names: dict[str, str] = Field(description="Name by which programs find an expert → the expert's own name.")
    winner: str = Field(description="The campaign's winner when its programs were taken over.")
    finalists: tuple[str, ...] = Field(description="Algorithm ids that were taken over.")
    rows: tuple[TransferRow, ...] = Field(description="Best validation score first.")
    comparisons: tuple[Comparison, ...] = ()
    human: int = Field(description="Grid points of human-designed algorithms scored on this set's search questions.")
    test_openings: int = Field(0, description="How often this campaign has opened test questions for these models.")
    same_test: bool = Field(False, description="The test questions are the campaign's own.")
    cost: Cost


class BudgetNote(Record):
    """Evaluated programs per arm; the untrained arm is cut to the trained arm's number, in the order drawn."""

    trained: int
    untrained: int
    human: int


class Stop(Record):
    """A cap of the budget that ended the search before its last planned iteration."""

    cap: str = Field(description="Name of the setting in `budget`.")
    limit: float
    spent: float = Field(description="When the last iteration was over, in the cap's unit.")
    iterations: int = Field(description="Iterations done.")
    planned: int = Field(description="Iterations of the configuration.")

    @property
    def told(self) -> str:
        """The stop in one sentence."""
        what = self.cap.replace("_", " ")
        amounts = f"{_number(self.spent)} of {_number(self.limit)} {what} were spent"
        why = f"{amounts}, and the next iteration would have exceeded them" if self.spent < self.limit else amounts
        return (
            f"The search was ended by its budget (budget.{self.cap}) after {self.iterations} of {self.planned} iterations: "
            f"{why}. With a larger cap the same command goes on."
        )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:.3g}"


class CampaignResult(Record):
    name: str
    config: dict[str, object] = Field(description="The configuration, as plain data.")
    finished: bool
    started_at: str = Field(description="ISO 8601, UTC.")
    ended_at: str = ""
    conditions: dict[str, str] = Field(description="Machine, library versions.")
    iterations: tuple[IterationResult, ...]
    leaderboard: tuple[Contender, ...] = ()
    winner: str = Field("", description="Subject picked by the stated rule: best validation score among the finalists.")
    comparisons: tuple[Comparison, ...] = ()
    learned_gain: Interval | None = Field(
        None,
        description="Mean score of fresh samples in the last iteration, trained minus untrained; bootstrap interval.",
    )
    best_of_arms: dict[str, float] = Field(
        default_factory=dict,
        description="Validation score of each arm's finalist (best search score), at equal budget.",
    )
    budget: BudgetNote | None = None
    stopped_by: Stop | None = Field(None, description="The cap that ended the search, if one did.")
    ablation: tuple[AblationArm, ...] = ()
    transfers: tuple[TransferResult, ...] = ()
    test_openings: int = 0
    costs: dict[str, Cost] = Field(default_factory=dict, description="Stage → cost, both arms together.")
