"""The budget: whether the search goes on after an iteration.

The answer must be the same whenever it is asked again, or a rerun of a capped campaign would stop elsewhere. Programs and
tokens are counted from the stored iterations. What had been spent in hours is stored when an iteration is first over, and
that record decides from then on; it does not name the cap, so a larger cap never stops a campaign earlier.
"""

from __future__ import annotations

from collections.abc import Sequence

from selfdev_core.iteration import CampaignPlan, IterationRecord
from selfdev_core.ledger import read_ledger
from selfdev_core.records import Record, digest_of
from selfdev_core.result import Stop
from selfdev_core.workspace import Workspace

BOUNDARIES = "boundaries"
_HOUR = 3600.0


class Boundary(Record):
    """What a campaign had taken when it first came to the end of an iteration of all arms, in seconds."""

    campaign: str
    iteration: int
    wall_seconds: float
    device_seconds: float


def reached(
    plan: CampaignPlan,
    trained: Sequence[IterationRecord],
    untrained: Sequence[IterationRecord],
    workspace: Workspace,
    ablation: Sequence[Sequence[IterationRecord]] = (),
) -> Stop | None:
    """The cap that forbids the next iteration, or None. Asked when an iteration of all arms is over and one is to come."""
    caps, factory = plan.config.budget, plan.config.factory
    boundary = _boundary(plan, len(trained), workspace)
    drawn = unshared(trained, untrained, ablation)
    programs = sum(one.result.samples for one in drawn)
    next_programs = factory.samples * (1 + plan.config.controls.untrained + len(plan.config.ablation.temperature))
    tokens = sum(cost.tokens for one in drawn for cost in one.costs.values())
    spent: list[tuple[str, float | None, float, float]] = [  # setting, cap, spent, surely needed by the next iteration
        ("programs", caps.programs, programs, next_programs),
        ("tokens", caps.tokens, tokens, 1),
        ("wall_hours", caps.wall_hours, boundary.wall_seconds / _HOUR, 0.0),
        ("device_hours", caps.device_hours, boundary.device_seconds / _HOUR, 0.0),
    ]
    for name, cap, used, needed in spent:
        if cap is not None and (used >= cap or used + needed > cap):
            return Stop(cap=name, limit=cap, spent=used, iterations=len(trained), planned=factory.iterations)
    return None


def unshared(
    trained: Sequence[IterationRecord],
    untrained: Sequence[IterationRecord],
    ablation: Sequence[Sequence[IterationRecord]] = (),
) -> list[IterationRecord]:
    """The iterations of all arms, each piece of work once: arms share iteration 1, and an ablation's arm shares an iteration
    with another arm that drew from the same factory at the same temperature."""
    drawn = [*trained, *untrained[1:]]
    seen = {_draw(one) for one in (*trained, *untrained)}
    for one in (one for arm in ablation for one in arm):
        if _draw(one) not in seen:
            seen.add(_draw(one))
            drawn.append(one)
    return drawn


def _draw(one: IterationRecord) -> tuple[str, float, int]:
    return (one.result.factory_sha256, one.result.temperature, one.result.iteration)


def _searched(plan: CampaignPlan) -> str:
    """All that the arms draw, check and evaluate in an iteration: neither how many follow, nor finalists and controls, which
    come at the end, nor the store."""
    config = plan.config
    drawn = config.factory.model_dump(mode="json", exclude={"iterations", "prompt"})
    parts = [config.preference, config.dpo, config.ablation, plan.limits, plan.models, plan.search, plan.decoding]
    others = [config.name, config.seed, plan.prompt, config.engine.key, config.controls.untrained]
    return digest_of([drawn, *(part.model_dump(mode="json") for part in parts), *others])


def _boundary(plan: CampaignPlan, iteration: int, workspace: Workspace) -> Boundary:
    key = digest_of([BOUNDARIES, _searched(plan), iteration])
    found = workspace.remembered(BOUNDARIES, key, Boundary)
    if found is not None:
        return found
    ledger = read_ledger(plan.config.name, workspace.store)
    made = Boundary(
        campaign=plan.config.name,
        iteration=iteration,
        wall_seconds=ledger.wall_seconds,
        device_seconds=ledger.device_seconds,
    )
    return workspace.store.add(BOUNDARIES, key, made)
