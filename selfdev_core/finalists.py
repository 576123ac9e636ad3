"""The end of a campaign: controls at equal budget, finalists on validation, the winner on test.

The rule: the best K of the trained arm by search score are re-scored on validation; the best of them there is the
winner (equal scores: the better one on search). Only then is the test split opened, for the winner and for what it is
compared with.
"""

from __future__ import annotations

from typing import NamedTuple

from selfdev_core.baselines import Scorer, in_order, search_baselines
from selfdev_core.iteration import CampaignPlan, IterationRecord
from selfdev_core.prepare import open_test_split
from selfdev_core.records import Cost, QuestionSet, Scorecard
from selfdev_core.result import Comparison, Contender
from selfdev_core.stages.executor import Executor
from selfdev_core.stages.jobs import Program
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

    scorer = Scorer(plan, executor, workspace)
    found = evaluated_programs(trained)
    arms = {"trained": found, "untrained": evaluated_programs(untrained)[: len(found)]}
    baselines = search_baselines(scorer)
    rows, best_human = baselines.rows, baselines.best_of_methods
    plain = (plan.models.seed, *plan.models.experts)

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
        return Finals(in_order(rows), "", (), best_of_arms, None, baselines.human, scorer.cost)
    winner = max((p.algorithm_id for p in top["trained"]), key=standing)

    rivals = {"seed": "seed", "best expert": max((m.name for m in plan.models.experts), key=standing)}
    if best_human:
        rivals["best human-designed"] = max((p.algorithm_id for p in best_human), key=standing)
    if top["untrained"]:
        rivals["best untrained"] = max((p.algorithm_id for p in top["untrained"]), key=standing)
    test = open_test_split(plan, winner, tuple(rivals.values()), workspace, stopped_after)
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
    return Finals(in_order(rows), winner, comparisons, best_of_arms, test, baselines.human, scorer.cost)
