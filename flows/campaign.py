"""The campaign flow: iterations of the trained arm, the untrained arm beside it, finalists, report."""

from __future__ import annotations

from collections.abc import Callable

from prefect import flow

from flows.artifacts import ResultArtifacts
from flows.iteration import iteration
from flows.names import FLOW
from flows.watch import watched
from selfdev_core.assemble import assemble, earlier_result, save_result
from selfdev_core.budget import reached
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
Keep = Callable[[CampaignResult], object]


@flow(name=FLOW, flow_run_name="{config.name}")
def campaign(config: CampaignConfig) -> str:
    """Run one campaign, or go on with it: finished work comes from the store. Returns the campaign's name."""
    ready = prepare(config)
    with watched(ready):
        executor = TaskExecutor(ready.settings)
        keep_result = ResultArtifacts(workspace_of(ready.settings).progress.note, earlier_result(config))
        return loop(ready, executor, lambda spec: iteration(spec, ready.settings), keep_result).name


def loop(ready: Prepared, executor: Executor, iterate: Iterate, keep_result: Keep = save_result) -> CampaignResult:
    """The whole method, whoever runs its stages and iterations; the ledger has it as one run.

    `keep_result` is given each result so far.
    """
    with workspace_of(ready.settings).ledger.run():
        return _loop(ready, executor, iterate, keep_result)


def _loop(ready: Prepared, executor: Executor, iterate: Iterate, keep_result: Keep) -> CampaignResult:
    plan = ready.plan
    workspace = workspace_of(ready.settings)
    arms: dict[Arm, list[IterationRecord]] = {"trained": [], "untrained": []}
    keys: dict[Arm, list[str]] = {"trained": [], "untrained": []}

    earlier = earlier_result(plan.config)
    keep = earlier is not None and earlier.finished  # a rerun does not put a partial result in a finished one's place

    def sample(arm: Arm, number: int, train: bool, last: int | None = None) -> None:
        nonlocal earlier
        done = arms[arm]
        factory = done[-1].factory if done else FactoryRef(sha256=plan.models.seed.sha256)
        before = tuple(keys[arm])
        spec = IterationSpec(
            plan=plan, arm=arm, iteration=number, factory=factory, train=train, earlier=before, last=last
        )
        keys[arm].append(iterate(spec))
        done.append(read_iteration(keys[arm][-1], workspace))
        if not keep:
            earlier = assemble(plan, arms["trained"], arms["untrained"], None, earlier, workspace.store)
            keep_result(earlier)

    rounds, stop = plan.config.factory.iterations, None
    for number in range(1, rounds + 1):
        sample("trained", number, train=number < rounds)
        if plan.config.controls.untrained:
            sample("untrained", number, train=False)
        if number < rounds and (stop := reached(plan, arms["trained"], arms["untrained"], workspace)):
            workspace.progress.note(stop.told)
            break
    last = len(arms["trained"])
    if plan.config.controls.untrained:  # also when a budget ended the search: the arms must have an equal number
        for number in range(last + 1, last + EXTRA_ROUNDS + 1):
            if _evaluated(arms["untrained"]) >= _evaluated(arms["trained"]):
                break
            sample("untrained", number, train=False, last=last)

    stopped_after = stop.iterations if stop else 0
    finals = run_finalists(
        plan, ready.validation, arms["trained"], arms["untrained"], executor, workspace, stopped_after
    )
    result = assemble(plan, arms["trained"], arms["untrained"], finals, earlier, workspace.store, stop)
    workspace.progress.stage("report", 1)
    keep_result(result)
    workspace.progress.advance()
    return result


def _evaluated(rounds: list[IterationRecord]) -> int:
    return sum(len(one.scorecards) for one in rounds)
