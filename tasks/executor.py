"""Runs the loop's stages as Prefect tasks: one task run per job, several at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, cast

from prefect import Task
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from selfdev_core.errors import StoreError
from selfdev_core.records import Record, TrainManifest
from selfdev_core.stages.executor import Stage
from selfdev_core.workspace import WorkspaceSettings, workspace_of
from tasks.evaluate import evaluate
from tasks.generate import generate
from tasks.merge import merge
from tasks.pairs import pairs
from tasks.train import train
from tasks.validate import validate

J = TypeVar("J", bound=Record)
M = TypeVar("M", bound=Record)

TASKS: dict[str, Task[..., Any]] = {task.name: task for task in (generate, validate, merge, evaluate, pairs, train)}


def threads(count: int) -> TaskRunner[PrefectFuture[Any]]:
    """Task runs of a flow in so many threads; the heavy work is in other processes."""
    runner: Any = ThreadPoolTaskRunner(max_workers=count)
    return cast("TaskRunner[PrefectFuture[Any]]", runner)


class TaskExecutor:
    """Used inside a flow. A finished job's manifest comes from the result store; the rest runs."""

    def __init__(self, settings: WorkspaceSettings) -> None:
        self._settings = settings

    def map(self, stage: Stage[J, M], jobs: Sequence[J]) -> list[M]:
        try:
            futures = [self._submit(TASKS[stage.name], job) for job in jobs]
            return [self._manifest(stage, job, future) for job, future in zip(jobs, futures, strict=True)]
        except KeyboardInterrupt:
            workspace_of(self._settings).pool.close()  # running work ends now, before Prefect waits for its threads
            raise

    def _submit(self, task: Task[..., Any], job: J) -> Any:
        return task.submit(job=job, settings=self._settings)

    def _manifest(self, stage: Stage[J, M], job: J, future: Any) -> M:
        future.wait()
        state = future.state
        manifest = state.result()
        if not getattr(state.data, "is_persisted", True):
            raise StoreError(
                f"{stage.name}: its result could not be written to the result store; finished work is kept, mend the "
                "store folder (space, permissions) and run the same command again"
            )
        checked = stage.manifest.model_validate(manifest)
        if isinstance(checked, TrainManifest) and not workspace_of(self._settings).holds(checked.factory.sha256):
            # The record of the training is here but its checkpoint is not: do the work again.
            again = TASKS[stage.name].with_options(refresh_cache=True)
            return stage.manifest.model_validate(self._submit(again, job).result())
        return checked
