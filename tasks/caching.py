"""How a core stage becomes a Prefect task: a content-based cache key, a stored manifest, one retry.

The key is the stage's name, its version and the digest of its job, nothing else: neither the run, nor the source text of
a function, nor where files lie. A key that cannot be computed is an error, never an uncached run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from prefect import Task, task
from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext

from selfdev_core.errors import EngineError, StoreError
from selfdev_core.progress import Progress
from selfdev_core.records import Record
from selfdev_core.sandbox.client import SandboxError
from selfdev_core.stages.executor import Stage, perform
from selfdev_core.stages.jobs import key_of
from selfdev_core.workspace import WorkspaceSettings, close_workspaces, workspace_of
from tasks.gpu import computes_on_gpu, gpu_slot


class Relay(Progress, Protocol):
    """Progress that reaches the driver from another process. `close`: the workspace is closed when the task run ends."""

    close: bool


@dataclass
class ByContent(CachePolicy):
    """Cache policy of one stage."""

    stage: str = ""
    version: int = 0

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str:
        job = inputs["job"]
        if not isinstance(job, Record):
            raise TypeError(f"{self.stage}: job is a {type(job).__name__}, not a record; it has no content key")
        return cache_key(self.stage, self.version, job)


def cache_key(stage: str, version: int, job: Record) -> str:
    """Prefect's cache key of a job, and the name of its result."""
    return f"{stage}-v{version}-{key_of(stage, version, job)}"


def stage_task(stage: Stage[Any, Any]) -> Task[..., Any]:
    """The Prefect task of a stage: takes (job, settings, relay), returns the stage's manifest.

    `relay` is for a task run in another process: it tells the driver how far the work is.
    """

    def run(job: Any, settings: WorkspaceSettings, relay: Relay | None = None) -> dict[str, Any]:
        context = TaskRunContext.get()
        attempt = context.task_run.run_count if context else 1
        workspace = workspace_of(settings)
        if relay is not None:
            workspace.progress = relay
        try:
            # Plain data: what is read back is checked by the executor against the manifest's type, whatever was stored.
            with gpu_slot(computes_on_gpu(stage.name, job, settings.engine)):
                manifest: dict[str, Any] = perform(stage, job, workspace, attempt).model_dump(mode="json")
            return manifest
        finally:
            if relay is not None and relay.close:
                close_workspaces(settings)

    run.__doc__ = stage.run.__doc__
    return task(
        name=stage.name,
        task_run_name=f"{stage.name} {{job.label}}",
        cache_policy=ByContent(stage=stage.name, version=stage.version),
        persist_result=True,
        result_serializer="json",
        cache_result_in_memory=False,
        retries=1,
        retry_condition_fn=_worth_a_retry,
    )(run)


async def _worth_a_retry(_: Any, __: Any, state: Any) -> bool:
    """Only what may pass the second time: a dead worker, a store that hiccuped."""
    try:
        await state.aresult()
    except (EngineError, SandboxError, StoreError):
        return True
    except BaseException:
        return False
    return False
