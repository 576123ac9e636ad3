"""The demo campaign without Prefect: the same stages in the same order, run by threads. For the overhead ratio."""

from __future__ import annotations

import sys

from flows.campaign import loop
from selfdev_core.config import CampaignConfig
from selfdev_core.iteration import run_iteration
from selfdev_core.prepare import prepare
from selfdev_core.stages.executor import DirectExecutor
from selfdev_core.transfer import run_transfer
from selfdev_core.workspace import close_workspaces, workspace_of


def main(config_json: str) -> None:
    ready = prepare(CampaignConfig.model_validate_json(config_json))
    workspace = workspace_of(ready.settings)
    executor = DirectExecutor(workspace)
    try:
        loop(
            ready,
            executor,
            lambda spec: run_iteration(spec, executor, workspace),
            lambda spec: run_transfer(spec, executor, workspace),
        )
    finally:
        close_workspaces(ready.settings)


if __name__ == "__main__":
    main(sys.argv[1])
