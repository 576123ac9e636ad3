"""How a core stage becomes a Prefect task: a content-based cache key, a stored manifest, one retry.

The key is the stage's name, its version and the digest of its job, nothing else: neither the run, nor the source text of
a function, nor where files lie. A key that cannot be computed is an error, never an uncached run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prefect import Task, task
from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext

from selfdev_core.errors import EngineError, StoreError
from selfdev_core.records import Record
from selfdev_core.sandbox.client import SandboxError
from selfdev_core.stages.executor import Stage
from selfdev_core.stages.jobs import key_of
from selfdev_core.workspace import WorkspaceSettings, workspace_of


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
        return f"{self.stage}-v{self.version}-{key_of(self.stage, self.version, job)}"


def stage_task(stage: Stage[Any, Any]) -> Task[..., Any]:
    """The Prefect task of a stage: takes (job, settings), returns the stage's manifest."""

    def run(job: Any, settings: WorkspaceSettings) -> dict[str, Any]:
        # Plain data: what is read back is checked by the executor against the manifest's type, whatever was stored.
        manifest: dict[str, Any] = stage.run(job, workspace_of(settings)).model_dump(mode="json")
        return manifest

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
