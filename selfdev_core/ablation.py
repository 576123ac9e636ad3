"""Ablation of the temperature schedule: other arms, cut to the trained arm's budget, their finalists on validation.

The paper compares a constant high, a constant low and a decayed temperature. An arm here is a whole search with DPO whose plan
differs in the schedule only. Arms that begin at one temperature share their first iteration, which then costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from selfdev_core.baselines import Scorer
from selfdev_core.finalists import evaluated_programs
from selfdev_core.iteration import CampaignPlan, IterationRecord
from selfdev_core.records import Cost, QuestionSet, Scorecard
from selfdev_core.result import AblationArm, Contender
from selfdev_core.stages.executor import Executor
from selfdev_core.stages.jobs import Program
from selfdev_core.workspace import Workspace


class Ablation(NamedTuple):
    """The arms as the result shows them, their iterations as stored, and what scoring their finalists cost."""

    arms: tuple[AblationArm, ...] = ()
    rounds: tuple[Sequence[IterationRecord], ...] = ()
    cost: Cost = Cost()


def ablation_plans(plan: CampaignPlan) -> dict[str, CampaignPlan]:
    """Arm → the campaign's plan with this arm's temperature schedule."""
    config = plan.config
    return {
        name: plan.model_copy(
            update={
                "config": config.model_copy(
                    update={"factory": config.factory.model_copy(update={"temperature": schedule})}
                )
            }
        )
        for name, schedule in config.ablation.temperature.items()
    }


def score_ablation(
    plan: CampaignPlan,
    validation: QuestionSet,
    arms: Mapping[str, Sequence[IterationRecord]],
    budget: int,
    executor: Executor,
    workspace: Workspace,
) -> Ablation:
    """Re-score the finalists of each arm on validation. `budget`: evaluated programs of the trained arm, to which each is cut."""
    scorer = Scorer(plan, executor, workspace)
    made = []
    for name, rounds in arms.items():
        found = evaluated_programs(list(rounds))[:budget]
        top = sorted(found, key=lambda pair: -pair[1].score)[: plan.config.finalists.count]
        validated = scorer.score(f"ablation {name}", [program for program, _ in top], (), validation)
        made.append(
            AblationArm(
                name=name,
                schedule=plan.config.ablation.temperature[name],
                iterations=tuple(one.result.model_copy(update={"candidates": ()}) for one in rounds),
                evaluated=len(found),
                best=_best(name, top, validated),
            )
        )
    return Ablation(tuple(made), tuple(arms.values()), scorer.cost)


def _best(name: str, top: Sequence[tuple[Program, Scorecard]], validated: Mapping[str, Scorecard]) -> Contender | None:
    """By validation score, then by search score: the rule that picks the campaign's winner."""
    if not top:
        return None
    program, card = max(top, key=lambda pair: (validated[pair[0].algorithm_id].score, pair[1].score))
    return Contender(
        subject=program.algorithm_id,
        label=f"{name} {program.algorithm_id}",
        kind="discovered-trained",
        source=program.source,
        search=card,
        validation=validated[program.algorithm_id],
    )
