"""The iteration subflow: generate → validate → merge → evaluate → pairs → DPO, each stage in cached tasks."""

from __future__ import annotations

from prefect import flow

from selfdev_core.iteration import IterationSpec, run_iteration
from selfdev_core.workspace import WorkspaceSettings, workspace_of
from tasks.executor import TaskExecutor, threads


def iteration(spec: IterationSpec, settings: WorkspaceSettings) -> str:
    """Run one iteration of one arm as a subflow; returns the key of its record in the store."""

    @flow(
        name="iteration",
        flow_run_name=f"{spec.plan.config.name} · {spec.arm} {spec.iteration}",
        task_runner=threads(settings.workers),
        validate_parameters=False,
    )
    def subflow(arm: str, number: int) -> str:
        return run_iteration(spec, TaskExecutor(settings), workspace_of(settings))

    return subflow(spec.arm, spec.iteration)
