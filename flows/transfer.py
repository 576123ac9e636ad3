"""The finalists of a campaign on another model set: a subflow of the campaign, or a flow of its own when it is finished."""

from __future__ import annotations

from uuid import UUID

from prefect import flow, runtime, tags

from flows.names import transfer_tags
from flows.watch import suspended_too, watched
from selfdev_core.config import CampaignConfig
from selfdev_core.prepare import prepare
from selfdev_core.transfer import TransferSpec, carry_over, run_transfer
from selfdev_core.workspace import WorkspaceSettings, workspace_of
from tasks.executor import TaskExecutor


def transfer(spec: TransferSpec, settings: WorkspaceSettings) -> str:
    """Run one transfer as a subflow; returns the key of its record in the store."""

    @flow(
        name="transfer",
        flow_run_name=f"{spec.target.plan.config.name} · transfer to {spec.target.name}",
        validate_parameters=False,
    )
    def subflow(target: str) -> str:
        run_ids.append(UUID(str(runtime.flow_run.id)))
        return run_transfer(spec, TaskExecutor(settings), workspace_of(settings))

    run_ids: list[UUID] = []
    with suspended_too(run_ids), tags(*transfer_tags(spec.target.name)):
        return subflow(spec.target.name)


@flow(name="transfers", flow_run_name="{config.name}")
def transfers(config: CampaignConfig) -> str:
    """Take a finished campaign's finalists to the targets of `config`. Returns the campaign's name."""
    ready = prepare(config)
    with watched(ready):
        return carry_over(ready, lambda spec: transfer(spec, ready.settings)).name
