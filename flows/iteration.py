"""The iteration subflow: generate → validate → merge → evaluate → pairs → DPO, each stage in cached tasks."""

from __future__ import annotations

from uuid import UUID

from prefect import flow, get_client, runtime, tags
from prefect.exceptions import Pause
from prefect.states import Paused

from flows.names import iteration_tags
from selfdev_core.iteration import IterationSpec, run_iteration
from selfdev_core.workspace import WorkspaceSettings, workspace_of
from tasks.executor import TaskExecutor


def iteration(spec: IterationSpec, settings: WorkspaceSettings) -> str:
    """Run one iteration of one arm as a subflow; returns the key of its record in the store."""

    @flow(
        name="iteration",
        flow_run_name=f"{spec.plan.config.name} · {spec.arm} {spec.iteration}",
        validate_parameters=False,
    )
    def subflow(arm: str, number: int) -> str:
        run_ids.append(runtime.flow_run.id)
        return run_iteration(spec, TaskExecutor(settings), workspace_of(settings))

    run_ids: list[str] = []
    try:
        with tags(*iteration_tags(spec.arm, spec.iteration)):
            return subflow(spec.arm, spec.iteration)
    except Pause:  # the campaign is suspended; Prefect would leave this run Running, with nobody at work
        with get_client(sync_client=True) as client:
            for run_id in run_ids:
                client.set_flow_run_state(UUID(run_id), Paused(message="Suspended with its campaign."))
        raise
