"""The end of a campaign: controls at equal budget, finalists on validation, the winner on test.

The rule: the best K of the trained arm by search score are re-scored on validation; the best of them there is the
winner (equal scores: the better one on search). Only then is the test split opened, for the winner and for what it is
compared with.
"""

from __future__ import annotations

from typing import NamedTuple

from selfdev_core.algorithm.canonical import algorithm_id
from selfdev_core.iteration import CampaignPlan, IterationRecord, evaluate_jobs
from selfdev_core.merging.human import HumanAlgorithm, human_algorithms
from selfdev_core.prepare import open_test_split
from selfdev_core.records import Cost, ModelRef, QuestionSet, Scorecard
from selfdev_core.result import Comparison, Contender
from selfdev_core.stages.executor import EVALUATE, MERGE, Executor
from selfdev_core.stages.jobs import MergeJob, Program, chunks
from selfdev_core.workspace import Workspace


class Finals(NamedTuple):
    """Outcome of the finalists step."""

    leaderboard: tuple[Contender, ...]
    winner: str
    comparisons: tuple[Comparison, ...]
    best_of_arms: dict[str, float]
    test: QuestionSet | None
    human: int
    cost: Cost


class _Scorer:
    """Scores programs and plain models on one split and keeps the sum of what it cost."""

    def __init__(self, plan: CampaignPlan, executor: Executor, workspace: Workspace) -> None:
        self.plan, self._executor, self._workspace = plan, executor, workspace
        self.cost = Cost()

    def score(
        self, label: str, programs: list[Program], plain: tuple[ModelRef, ...], questions: QuestionSet
    ) -> dict[str, Scorecard]:
        # Small chunks: here a program is scored on many more questions than in the search.
        size = max(1, self.plan.config.resources.chunk_for(len(programs)) // 4)
        jobs = evaluate_jobs(self.plan, programs, questions, size, plain)
        self._workspace.progress.stage(f"finalists · {label}", len(programs) + len(plain))
        made = self._executor.map(EVALUATE, jobs)
        self.cost = sum((manifest.cost for manifest in made), self.cost)
        return {card.subject: card for manifest in made for card in manifest.scorecards}


def evaluated_programs(rounds: list[IterationRecord]) -> list[tuple[Program, Scorecard]]:
    """The programs that an arm evaluated, in the order in which they were drawn."""
    found = []
    for one in rounds:
        sources = {c.algorithm_id: c.source for c in one.result.candidates}
        found += [(Program(algorithm_id=card.subject, source=sources[card.subject]), card) for card in one.scorecards]
    return found


def run_finalists(
    plan: CampaignPlan,
    validation: QuestionSet,
    trained: list[IterationRecord],
    untrained: list[IterationRecord],
    executor: Executor,
    workspace: Workspace,
    stopped_after: int = 0,
) -> Finals:
    """Score controls and finalists, pick the winner by the stated rule, open the test split once.

    `stopped_after`: iterations after which a budget ended the search; 0 when it is whole.
    """
    from selfdev_core.statistics.intervals import mcnemar_exact, paired_difference

    scorer = _Scorer(plan, executor, workspace)
    found = evaluated_programs(trained)
    arms = {"trained": found, "untrained": evaluated_programs(untrained)[: len(found)]}
    human = {algorithm_id(one.source): one for one in human_algorithms(plan.config.controls)}
    plain = (plan.models.seed, *plan.models.experts)
    rows: dict[str, Contender] = {}

    programs = [Program(algorithm_id=key, source=one.source) for key, one in human.items()]
    searched = scorer.score("controls", _runnable(programs, plan, executor, workspace), plain, plan.search)
    for model in plain:
        rows[model.name] = Contender(subject=model.name, label=model.name, kind="model", search=searched[model.name])
    for key, one in human.items():
        if key in searched:
            rows[key] = _human_row(key, one, searched[key])

    best_of_arms: dict[str, float] = {}
    top: dict[str, list[Program]] = {}
    for arm, scored in arms.items():
        ranked = sorted(scored, key=lambda pair: -pair[1].score)[: plan.config.finalists.count]
        top[arm] = [program for program, _ in ranked]
        for program, card in ranked:
            row = Contender(
                subject=program.algorithm_id,
                label=f"{arm} {program.algorithm_id}",
                kind=f"discovered-{arm}",
                source=program.source,
                search=card,
            )
            rows.setdefault(program.algorithm_id, row)
    best_human = _best_of_each_method(human, searched)
    entrants = {p.algorithm_id: p for arm in top.values() for p in arm} | {p.algorithm_id: p for p in best_human}
    validated = scorer.score("validation", list(entrants.values()), plain, validation)
    rows = {k: row.model_copy(update={"validation": validated.get(k)}) for k, row in rows.items()}

    def standing(subject: str) -> tuple[float, float]:
        row = rows[subject]
        return (row.validation.score if row.validation else -1.0, row.search.score if row.search else -1.0)

    for arm, finalists in top.items():
        if finalists and finalists[0].algorithm_id in validated:
            best_of_arms[arm] = validated[finalists[0].algorithm_id].score
    if not top["trained"]:
        return Finals(_sorted(rows), "", (), best_of_arms, None, len(human), scorer.cost)
    winner = max((p.algorithm_id for p in top["trained"]), key=standing)

    rivals = {"seed": "seed", "best expert": max((m.name for m in plan.models.experts), key=standing)}
    if best_human:
        rivals["best human-designed"] = max((p.algorithm_id for p in best_human), key=standing)
    if top["untrained"]:
        rivals["best untrained"] = max((p.algorithm_id for p in top["untrained"]), key=standing)
    test = open_test_split(plan.config, winner, tuple(rivals.values()), workspace, stopped_after)
    contestants = list(
        dict.fromkeys((winner, *rivals.values()))
    )  # in order: the jobs must be the same in every process
    sources = {k: Program(algorithm_id=k, source=rows[k].source) for k in contestants if rows[k].source}
    asked = tuple(model for model in plain if model.name in contestants)
    tested = scorer.score("test", list(sources.values()), asked, test)
    rows = {k: row.model_copy(update={"test": tested.get(k)}) for k, row in rows.items()}
    comparisons = tuple(
        Comparison(
            against=subject,
            label=label,
            difference=paired_difference(tested[winner], tested[subject]),
            p_value=mcnemar_exact(tested[winner], tested[subject]),
        )
        for label, subject in rivals.items()
    )
    return Finals(_sorted(rows), winner, comparisons, best_of_arms, test, len(human), scorer.cost)


def _runnable(programs: list[Program], plan: CampaignPlan, executor: Executor, workspace: Workspace) -> list[Program]:
    """Human-designed programs that merge these models (all of them, unless a model set is peculiar)."""
    workspace.progress.stage("finalists · merge controls", len(programs))
    resources = plan.config.resources
    parts = chunks(programs, resources.chunk_for(len(programs)), resources.workers)
    made = executor.map(MERGE, [MergeJob(models=plan.models, limits=plan.limits, programs=part) for part in parts])
    failed = {m.algorithm_id: m.verdict for manifest in made for m in manifest.merged if not m.verdict.accepted}
    for key, verdict in failed.items():
        workspace.progress.note(
            f"human-designed program {key} cannot merge these models: {verdict.reason} {verdict.detail}"
        )
    return [program for program in programs if program.algorithm_id not in failed]


def _human_row(key: str, one: HumanAlgorithm, card: Scorecard) -> Contender:
    return Contender(subject=key, label=one.label, kind="human", source=one.source, search=card)


def _best_of_each_method(human: dict[str, HumanAlgorithm], searched: dict[str, Scorecard]) -> list[Program]:
    """The grid point of each method with the best search score."""
    best: dict[str, str] = {}
    for key, one in human.items():
        if key not in searched:
            continue
        method = one.label.rsplit(" ", 1)[0]
        if method not in best or searched[key].score > searched[best[method]].score:
            best[method] = key
    return [Program(algorithm_id=key, source=human[key].source) for key in best.values()]


def _sorted(rows: dict[str, Contender]) -> tuple[Contender, ...]:
    """Best validation score first; rows without one follow by search score."""

    def order(row: Contender) -> tuple[float, float]:
        return (-(row.validation.score if row.validation else -1.0), -(row.search.score if row.search else -1.0))

    return tuple(sorted(rows.values(), key=order))
