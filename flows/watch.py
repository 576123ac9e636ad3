"""Who watches a campaign's flow run, and who tidies up after it.

On the command line that is `flows/run.py`. A run that a deployment's worker started is alone: its progress goes to the run's
log and to `status.json`, its worker processes are started early and ended at the end, however it ends.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID

from prefect import get_client, get_run_logger, runtime, tags
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.exceptions import Pause
from prefect.states import Paused

from flows.artifacts import ProgressArtifact
from flows.extent import Extent
from flows.names import LEFT, campaign_tags
from flows.status import StatusFile
from selfdev_core.assemble import campaign_folder, earlier_result
from selfdev_core.config import CampaignConfig
from selfdev_core.prepare import Prepared
from selfdev_core.workspace import close_workspaces, workspace_of


@contextmanager
def watched(ready: Prepared) -> Iterator[None]:
    """Everything round a campaign inside its flow run: tags, progress, and an orderly end."""
    config, workspace = ready.plan.config, workspace_of(ready.settings)
    with tags(*campaign_tags(config.name)):
        if runtime.deployment.id is None:
            shown = workspace.progress = ProgressArtifact(workspace.progress, config)
            yield
            shown.finish()
            return
        paused = False
        try:
            with _deployed(ready):
                yield
        except Pause:
            paused = True
            raise
        finally:
            context = FlowRunContext.get()  # a campaign that is at its end, or fails, may have been suspended meanwhile
            if paused or (context is not None and context.flow_run_suspension_request.is_requested()):
                _say_goodbye()


@contextmanager
def _deployed(ready: Prepared) -> Iterator[None]:
    config, workspace = ready.plan.config, workspace_of(ready.settings)
    try:
        earlier = earlier_result(config)
        if earlier is None or not earlier.finished:
            workspace.engine.warm()
        with LoggedProgress(config, campaign_folder(config.name) / "status.json") as log:
            shown = workspace.progress = ProgressArtifact(log, config)
            yield
            shown.finish()
    finally:
        close_workspaces(ready.settings)


@contextmanager
def suspended_too(run_ids: list[UUID]) -> Iterator[None]:
    """When the campaign is suspended inside, so are these runs of its subflows: Prefect would leave them Running, with nobody at
    work."""
    try:
        yield
    except Pause:
        with get_client(sync_client=True) as client:
            for run_id in run_ids:
                client.set_flow_run_state(run_id, Paused(message="Suspended with its campaign."))
        raise


def _say_goodbye() -> None:
    """Tell the server that a suspended run's process ends, so that its silence is not taken for a crash. Any other end is told by
    the run's last state."""
    related = [
        {"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"} for tag in runtime.flow_run.tags
    ]
    emit_event(LEFT, resource={"prefect.resource.id": f"prefect.flow-run.{runtime.flow_run.id}"}, related=related)


class LoggedProgress:
    """Stages and notes go to the flow run's log; keeps `status.json`."""

    def __init__(self, config: CampaignConfig, status_file: Path) -> None:
        self._extent, self._status = Extent(config), StatusFile(status_file)
        # Notes come from threads of several runs: the campaign's own log, taken here, gets them all.
        self._log: logging.LoggerAdapter[logging.Logger] | logging.Logger = get_run_logger()
        self._lock, self._best = threading.Lock(), 0.0

    def __enter__(self) -> Self:
        self._status.write("running", self._extent, self._best, force=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        paused = kind is not None and issubclass(kind, Pause)
        state = "finished" if kind is None else "paused" if paused else "stopped"
        self._status.write(state, self._extent, self._best, force=True)
        if kind is not None:
            self._log.info("%s at %s; finished work is kept", state, self._extent.words)

    def stage(self, name: str, total: int) -> None:
        with self._lock:
            self._extent.begin(name, total)
            self._status.write("running", self._extent, self._best, force=True)
        self._log.info("%s, %d to do; %.0f %% of the campaign is done", name, total, 100 * self._extent.share)

    def advance(self, items: int = 1) -> None:
        with self._lock:
            self._extent.advance(items)
            self._status.write("running", self._extent, self._best)

    def best(self, score: float) -> None:
        with self._lock:
            self._best = max(self._best, score)

    def note(self, text: str) -> None:
        self._log.warning("note: %s", text)
