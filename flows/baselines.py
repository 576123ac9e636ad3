"""The baselines flow: the seed, the experts and the human-designed methods of a campaign, without its search."""

from __future__ import annotations

from prefect import flow

from flows.watch import watched
from selfdev_core.baselines import run_baselines, save_baselines
from selfdev_core.config import CampaignConfig
from selfdev_core.prepare import prepare
from selfdev_core.workspace import workspace_of
from tasks.executor import TaskExecutor


@flow(name="baselines", flow_run_name="{config.name}")
def baselines(config: CampaignConfig) -> str:
    """Score the baselines on search, the best of each method on validation. Returns where the table lies."""
    ready = prepare(config)
    with watched(ready):
        workspace = workspace_of(ready.settings)
        with workspace.ledger.run():
            found = run_baselines(ready.plan, ready.validation, TaskExecutor(ready.settings), workspace)
        return str(save_baselines(found))
