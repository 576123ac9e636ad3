"""The iteration subflow: generate → validate → merge → evaluate → pairs → DPO, each stage in cached tasks."""

from __future__ import annotations

from uuid import UUID

from prefect import flow, runtime, tags

from flows.names import iteration_tags
from flows.watch import suspended_too
from selfdev_core.iteration import IterationSpec, run_iteration
from selfdev_core.workspace import WorkspaceSettings, workspace_of
from tasks.executor import TaskExecutor


def iteration(spec: IterationSpec, settings: WorkspaceSettings) -> str:
    """Run one iteration of one arm as a subflow; returns the key of its record in the store."""

    @flow(
        name="iteration",
        flow_run_name=f"{spec.plan.config.name} · {spec.name} {spec.iteration}",
        validate_parameters=False,
    )
    def subflow(arm: str, number: int) -> str:
        run_ids.append(UUID(str(runtime.flow_run.id)))
        return run_iteration(spec, TaskExecutor(settings), workspace_of(settings))

    run_ids: list[UUID] = []
    with suspended_too(run_ids), tags(*iteration_tags(spec.name, spec.iteration)):
        return subflow(spec.name, spec.iteration)
