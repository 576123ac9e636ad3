"""What a discovered program must beat: the seed, the experts, and every grid point of the human-designed methods.

The finalists step scores them beside the programs of the factory; `run_baselines` scores them alone, through the same
stages and so into the same records: a campaign with the same models and questions finds them done.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import Field

from selfdev_core.algorithm.canonical import algorithm_id
from selfdev_core.grids import HumanGrids
from selfdev_core.home import campaign_folder, replace_text
from selfdev_core.iteration import CampaignPlan
from selfdev_core.merging.human import HumanAlgorithm, human_algorithms
from selfdev_core.records import Cost, ModelRef, QuestionSet, Record, Scorecard, Verdict
from selfdev_core.result import Contender
from selfdev_core.stages.executor import EVALUATE, MERGE, Executor
from selfdev_core.stages.jobs import MergeJob, Program, chunks
from selfdev_core.statistics.intervals import wilson
from selfdev_core.turns import evaluate_jobs
from selfdev_core.workspace import Workspace

C = TypeVar("C", bound=Contender)


class Scorer:
    """Scores programs and plain models on one split and keeps the sum of what it cost. `who` runs it, for the progress."""

    def __init__(self, plan: CampaignPlan, executor: Executor, workspace: Workspace, who: str = "finalists") -> None:
        self.plan, self.executor, self.workspace, self.who = plan, executor, workspace, who
        self.cost = Cost()

    def score(
        self, label: str, programs: list[Program], plain: tuple[ModelRef, ...], questions: QuestionSet
    ) -> dict[str, Scorecard]:
        """Scorecard by subject."""
        # Small chunks: here a program is scored on many more questions than in the search.
        size = max(1, self.plan.config.resources.chunk_for(len(programs)) // 4)
        jobs = evaluate_jobs(self.plan, programs, questions, size, plain)
        self.workspace.progress.stage(f"{self.who} · {label}", len(programs) + len(plain))
        made = self.executor.map(EVALUATE, jobs)
        self.cost = sum((manifest.cost for manifest in made), self.cost)
        return {card.subject: card for manifest in made for card in manifest.scorecards}


class Searched(NamedTuple):
    """Baselines with their search scores: rows by subject, and the best grid point of each human-designed method."""

    rows: dict[str, Contender]
    best_of_methods: list[Program]
    human: int
    """Grid points of the configuration."""


class Baselines(Record):
    """What `selfdev baselines` found, best validation score first."""

    name: str = Field(description="The campaign whose models, questions and grids these are.")
    rows: tuple[Contender, ...]
    conditions: dict[str, str] = Field(description="Machine, library versions.")
    cost: Cost


def search_baselines(scorer: Scorer) -> Searched:
    """Score the plain models and every grid point on the search questions. A program that cannot merge is left out."""
    plan = scorer.plan
    human = by_id(plan.config.controls)
    plain = (plan.models.seed, *plan.models.experts)
    programs = [Program(algorithm_id=key, source=one.source) for key, one in human.items()]
    cards = scorer.score("controls", _runnable(programs, scorer), plain, plan.search)
    rows = {m.name: Contender(subject=m.name, label=m.name, kind="model", search=cards[m.name]) for m in plain}
    for key, one in human.items():
        if key in cards:
            rows[key] = Contender(subject=key, label=one.label, kind="human", source=one.source, search=cards[key])
    return Searched(rows, _best_of_each_method(human, cards), len(human))


def run_baselines(plan: CampaignPlan, validation: QuestionSet, executor: Executor, workspace: Workspace) -> Baselines:
    """Every baseline on search, the plain models and the best point of each method on validation. The test split stays shut."""
    from selfdev_core.assemble import conditions

    scorer = Scorer(plan, executor, workspace, "baselines")
    found = search_baselines(scorer)
    plain = (plan.models.seed, *plan.models.experts)
    cards = scorer.score("validation", found.best_of_methods, plain, validation)
    rows = {key: row.model_copy(update={"validation": cards.get(key)}) for key, row in found.rows.items()}
    return Baselines(name=plan.config.name, rows=in_order(rows), conditions=conditions(), cost=scorer.cost)


def save_baselines(found: Baselines) -> Path:
    """Write baselines.json and the table baselines.md into the campaign's folder; returns the table's path."""
    folder = campaign_folder(found.name)
    replace_text(folder / "baselines.json", found.model_dump_json(indent=1))
    replace_text(folder / "baselines.md", as_markdown(found))
    return folder / "baselines.md"


def as_markdown(found: Baselines) -> str:
    """The table: right answers in per cent with 95 % intervals, best validation score first."""
    lines = [
        f"# Baselines of {found.name}",
        "",
        "Right answers in per cent (95 % interval). Every grid point answers the search questions, the best of each method the",
        "validation questions too. No test question was asked.",
        "",
        "| method or model | search | validation |",
        "|---|---:|---:|",
    ]
    lines += [f"| {row.label} | {score_of(row.search)} | {score_of(row.validation)} |" for row in found.rows]
    lines += ["", " · ".join(f"{name} {value}" for name, value in found.conditions.items())]
    return "\n".join(lines) + "\n"


def score_of(card: Scorecard | None) -> str:
    """`71.9 (65.8–77.3)`, and what any reading gives that gives another: `; strict 41.0%`; or a dash."""
    if card is None:
        return "–"
    found = wilson(card.outcomes.count("right"), len(card.outcomes))
    other = f"; {card.otherwise}" if card.otherwise else ""
    return f"{100 * found.value:.1f} ({100 * found.low:.1f}–{100 * found.high:.1f}){other}"


def by_id(grids: HumanGrids) -> dict[str, HumanAlgorithm]:
    """Grid points by algorithm id."""
    return {algorithm_id(one.source): one for one in human_algorithms(grids)}


def in_order(rows: dict[str, C]) -> tuple[C, ...]:
    """Best validation score first; rows without one follow by search score."""

    def order(row: C) -> tuple[float, float]:
        return (-(row.validation.score if row.validation else -1.0), -(row.search.score if row.search else -1.0))

    return tuple(sorted(rows.values(), key=order))


def merge_verdicts(programs: list[Program], scorer: Scorer) -> dict[str, Verdict]:
    """Whether each program merges the models of the scorer's plan: algorithm id → verdict."""
    plan, resources = scorer.plan, scorer.plan.config.resources
    parts = chunks(programs, resources.chunk_for(len(programs)), resources.workers)
    jobs = [MergeJob(models=plan.models, limits=plan.limits, programs=part) for part in parts]
    made = scorer.executor.map(MERGE, jobs)
    return {m.algorithm_id: m.verdict for manifest in made for m in manifest.merged}


def _runnable(programs: list[Program], scorer: Scorer) -> list[Program]:
    """Human-designed programs that merge these models (all of them, unless a model set is peculiar)."""
    progress = scorer.workspace.progress
    progress.stage(f"{scorer.who} · merge controls", len(programs))
    verdicts = merge_verdicts(programs, scorer)
    for key, verdict in verdicts.items():
        if not verdict.accepted:
            progress.note(f"human-designed program {key} cannot merge these models: {verdict.reason} {verdict.detail}")
    return [program for program in programs if verdicts[program.algorithm_id].accepted]


def _best_of_each_method(human: dict[str, HumanAlgorithm], searched: dict[str, Scorecard]) -> list[Program]:
    """The grid point of each method with the best search score."""
    best: dict[str, str] = {}
    for key, one in human.items():
        if key in searched and (one.method not in best or searched[key].score > searched[best[one.method]].score):
            best[one.method] = key
    return [Program(algorithm_id=key, source=human[key].source) for key in best.values()]
