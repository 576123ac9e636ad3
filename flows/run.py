"""Runs a flow from the command line: server, progress, clean stop. Used by `selfdev demo`, `run`, `baselines` and `transfer`."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from rich.console import Console
from rich.markup import escape

from flows.display import LiveProgress
from flows.revive import kept_alive, through_absence
from flows.server import use_server
from selfdev_core.assemble import campaign_folder, earlier_result
from selfdev_core.config import CampaignConfig
from selfdev_core.errors import SelfdevError
from selfdev_core.prepare import prepare
from selfdev_core.result import CampaignResult
from selfdev_core.workspace import close_workspaces, workspace_of


def run_here(config: CampaignConfig, resume: list[str], console: Console) -> CampaignResult:
    """Run or resume a campaign in this process, with the Prefect UI beside it.

    `resume` is the command that goes on after an interruption. Raises: SelfdevError; KeyboardInterrupt after a clean stop.
    """

    def start() -> None:
        from flows.campaign import campaign

        campaign(config)

    run_flow(config, start, resume, console)
    from selfdev_core.assemble import load_result

    return load_result(config.name)


def run_flow(config: CampaignConfig, start: Callable[[], object], resume: list[str], console: Console) -> None:
    """Run a flow on this configuration: server, progress, clean stop. `start` imports the flow and calls it."""
    ready = prepare(config, lambda text: console.print(text, highlight=False, markup=False))
    workspace = workspace_of(ready.settings)
    status = campaign_folder(config.name) / "status.json"
    try:
        earlier = earlier_result(ready.plan.config)
        found_again = earlier is not None and earlier.finished
        if not found_again:
            workspace.engine.warm()  # while the server starts
        ui = use_server()
        console.print(f"Prefect UI  {ui}   store  {ready.settings.store}", highlight=False)
        with LiveProgress(config, status, console) as progress, kept_alive(progress.note):
            workspace.progress = progress
            from prefect import tags

            from flows.names import campaign_tags

            with tags(*campaign_tags(config.name)), _heartbeats(not found_again):
                through_absence(start, progress.note)
    except KeyboardInterrupt:
        console.print(
            f"\n[bold]Stopped.[/bold] Finished work is kept. Go on with:  {escape(shlex.join(resume))}", highlight=False
        )
        raise
    except (SelfdevError, OSError):
        console.print(
            f"Finished work is kept. When this is mended, go on with:  {escape(shlex.join(resume))}", highlight=False
        )
        raise
    finally:
        close_workspaces(ready.settings)


def _heartbeats(wanted: bool) -> AbstractContextManager[object]:
    """Flow runs with heartbeats or without. Ending one takes half a second in each flow: a finished campaign, which is found
    again in a few seconds, does without."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    return nullcontext() if wanted else temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
