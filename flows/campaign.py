"""The campaign flow: iterations of the trained arm, the untrained arm beside it, finalists, report."""

from __future__ import annotations

from collections.abc import Callable

from prefect import flow

from flows.iteration import iteration
from selfdev_core.assemble import assemble, earlier_result, save_result
from selfdev_core.config import CampaignConfig
from selfdev_core.finalists import run_finalists
from selfdev_core.iteration import IterationRecord, IterationSpec, read_iteration
from selfdev_core.prepare import Prepared, prepare
from selfdev_core.records import Arm, FactoryRef
from selfdev_core.result import CampaignResult
from selfdev_core.stages.executor import Executor
from selfdev_core.workspace import workspace_of
from tasks.executor import TaskExecutor

EXTRA_ROUNDS = 4  # rounds the untrained arm may add to reach the trained arm's number of evaluated programs

Iterate = Callable[[IterationSpec], str]


@flow(name="campaign", flow_run_name="{config.name}", validate_parameters=False)
def campaign(config: CampaignConfig) -> str:
    """Run one campaign, or go on with it: finished work comes from the store. Returns the campaign's name."""
    ready = prepare(config)
    executor = TaskExecutor(ready.settings)
    return loop(ready, executor, lambda spec: iteration(spec, ready.settings)).name


def loop(ready: Prepared, executor: Executor, iterate: Iterate) -> CampaignResult:
    """The whole method, whoever runs its stages and iterations."""
    plan = ready.plan
    workspace = workspace_of(ready.settings)
    arms: dict[Arm, list[IterationRecord]] = {"trained": [], "untrained": []}
    keys: dict[Arm, list[str]] = {"trained": [], "untrained": []}

    earlier = earlier_result(plan.config)
    keep = earlier is not None and earlier.finished  # a rerun does not put a partial result in a finished one's place

    def sample(arm: Arm, number: int, train: bool) -> None:
        nonlocal earlier
        done = arms[arm]
        factory = done[-1].factory if done else FactoryRef(sha256=plan.models.seed.sha256)
        spec = IterationSpec(
            plan=plan, arm=arm, iteration=number, factory=factory, train=train, earlier=tuple(keys[arm])
        )
        keys[arm].append(iterate(spec))
        done.append(read_iteration(keys[arm][-1], workspace))
        if not keep:
            earlier = assemble(plan, arms["trained"], arms["untrained"], None, earlier, workspace.store)
            save_result(earlier)

    rounds = plan.config.factory.iterations
    for number in range(1, rounds + 1):
        sample("trained", number, train=number < rounds)
        if plan.config.controls.untrained:
            sample("untrained", number, train=False)
    if plan.config.controls.untrained:
        for number in range(rounds + 1, rounds + EXTRA_ROUNDS + 1):
            if _evaluated(arms["untrained"]) >= _evaluated(arms["trained"]):
                break
            sample("untrained", number, train=False)

    finals = run_finalists(plan, ready.validation, arms["trained"], arms["untrained"], executor, workspace)
    result = assemble(plan, arms["trained"], arms["untrained"], finals, earlier, workspace.store)
    workspace.progress.stage("report", 1)
    save_result(result)
    workspace.progress.advance()
    return result


def _evaluated(rounds: list[IterationRecord]) -> int:
    return sum(len(one.scorecards) for one in rounds)
