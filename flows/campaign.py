"""The campaign flow: iterations of all arms side by side, finalists, transfer to other model sets, report."""

from __future__ import annotations

from collections.abc import Callable

from prefect import flow

from flows.artifacts import ResultArtifacts
from flows.iteration import iteration
from flows.names import FLOW
from flows.transfer import transfer
from flows.watch import watched
from selfdev_core.ablation import ablation_plans, score_ablation
from selfdev_core.assemble import assemble, earlier_result, save_result, set_aside, with_transfer
from selfdev_core.budget import reached
from selfdev_core.config import CampaignConfig
from selfdev_core.finalists import run_finalists
from selfdev_core.iteration import IterationRecord, IterationSpec, read_iteration
from selfdev_core.prepare import Prepared, prepare
from selfdev_core.records import FactoryRef
from selfdev_core.result import CampaignResult, Stop
from selfdev_core.stages.executor import Executor
from selfdev_core.transfer import TransferSpec, read_transfer, transfer_spec
from selfdev_core.workspace import Workspace, workspace_of
from tasks.executor import TaskExecutor

EXTRA_ROUNDS = 4  # rounds the other arms may add to reach the trained arm's number of evaluated programs

Iterate = Callable[[IterationSpec], str]
Carry = Callable[[TransferSpec], str]
Keep = Callable[[CampaignResult], object]


@flow(name=FLOW, flow_run_name="{config.name}")
def campaign(config: CampaignConfig) -> str:
    """Run one campaign, or go on with it: finished work comes from the store. Returns the campaign's name."""
    ready = prepare(config)
    with watched(ready):
        executor = TaskExecutor(ready.settings)
        keep_result = ResultArtifacts(workspace_of(ready.settings).progress.note, earlier_result(ready.plan.config))
        return loop(
            ready,
            executor,
            lambda spec: iteration(spec, ready.settings),
            lambda spec: transfer(spec, ready.settings),
            keep_result,
        ).name


def loop(
    ready: Prepared, executor: Executor, iterate: Iterate, carry: Carry, keep_result: Keep = save_result
) -> CampaignResult:
    """The whole method, whoever runs its stages, iterations and transfers; the ledger has it as one run.

    `keep_result` is given each result so far.
    """
    workspace = workspace_of(ready.settings)
    with workspace.ledger.run():
        result = _search(ready, executor, iterate, keep_result)
        if result.winner:
            for target in ready.targets:
                made = carry(transfer_spec(result, target))
                result = with_transfer(result, read_transfer(made, workspace))
        elif ready.targets:
            workspace.progress.note("no winner was found, so there is nothing to transfer")
        workspace.progress.stage("report", 1)
        keep_result(result)
        workspace.progress.advance()
        return result


def _search(ready: Prepared, executor: Executor, iterate: Iterate, keep_result: Keep) -> CampaignResult:
    """Iterations of every arm, then the finalists."""
    plan = ready.plan
    workspace = workspace_of(ready.settings)
    variants = ablation_plans(plan)
    others = [*(["untrained"] if plan.config.controls.untrained else []), *variants]
    arms: dict[str, list[IterationRecord]] = {name: [] for name in ("trained", "untrained", *variants)}
    keys: dict[str, list[str]] = {name: [] for name in arms}

    earlier = earlier_result(plan.config)
    keep = earlier is not None and earlier.finished  # a rerun does not put a partial result in a finished one's place

    def sample(name: str, number: int, last: int | None = None) -> None:
        """One iteration of an arm; after `last`, rounds from the factory of that iteration."""
        nonlocal earlier
        done = arms[name]
        factory = done[-1].factory if done else FactoryRef(sha256=plan.models.seed.sha256)
        if last is not None:
            factory = FactoryRef(sha256=done[last - 1].result.factory_sha256)
        spec = IterationSpec(
            plan=variants.get(name, plan),
            arm="untrained" if name == "untrained" else "trained",
            ablation=name if name in variants else "",
            iteration=number,
            factory=factory,
            train=name != "untrained" and number < rounds,
            earlier=tuple(keys[name]),
            last=last,
        )
        keys[name].append(iterate(spec))
        done.append(read_iteration(keys[name][-1], workspace))
        if not keep:
            if aside := set_aside(plan.config):
                workspace.progress.note(f"{plan.config.name}: the result of its earlier settings is kept as {aside}")
            earlier = assemble(plan, arms["trained"], arms["untrained"], None, earlier, workspace.store)
            keep_result(earlier)

    rounds, stop = plan.config.factory.iterations, None
    for number in range(1, rounds + 1):
        for name in ("trained", *others):
            sample(name, number)
        compared = [arms[name] for name in variants]
        if number < rounds and (stop := reached(plan, arms["trained"], arms["untrained"], workspace, compared)):
            workspace.progress.note(stop.told)
            break
    last = len(arms["trained"])
    for name in others:  # also when a budget ended the search: the arms must have an equal number
        for number in range(last + 1, last + EXTRA_ROUNDS + 1):
            if _evaluated(arms[name]) >= _evaluated(arms["trained"]):
                break
            sample(name, number, last=last)

    return _finish(ready, executor, workspace, arms, earlier, stop)


def _finish(
    ready: Prepared,
    executor: Executor,
    workspace: Workspace,
    arms: dict[str, list[IterationRecord]],
    earlier: CampaignResult | None,
    stop: Stop | None,
) -> CampaignResult:
    """Finalists of every arm, and the result."""
    plan, trained, untrained = ready.plan, arms["trained"], arms["untrained"]
    stopped_after = stop.iterations if stop else 0
    finals = run_finalists(plan, ready.validation, trained, untrained, executor, workspace, stopped_after)
    compared = {name: arms[name] for name in plan.config.ablation.temperature}
    ablation = score_ablation(plan, ready.validation, compared, _evaluated(trained), executor, workspace)
    return assemble(plan, trained, untrained, finals, earlier, workspace.store, stop, ablation)


def _evaluated(rounds: list[IterationRecord]) -> int:
    return sum(len(one.scorecards) for one in rounds)
