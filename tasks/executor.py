"""Runs the loop's stages as Prefect tasks: one task run per job, several at once, in threads or on Ray."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeVar

from prefect import Task
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause, TerminationSignal

from selfdev_core.errors import EngineError, StoreError
from selfdev_core.kinds import TASK_RESULTS
from selfdev_core.records import Record, TrainManifest, digest_of
from selfdev_core.stages.executor import Stage
from selfdev_core.stages.jobs import key_of, pieces
from selfdev_core.store.references import Reference
from selfdev_core.workspace import WorkspaceSettings, workspace_of
from tasks.caching import cache_key
from tasks.evaluate import evaluate
from tasks.generate import generate
from tasks.merge import merge
from tasks.pairs import pairs
from tasks.results import result_storage
from tasks.runners import bury, place_of, submitting_to
from tasks.train import train
from tasks.validate import validate

J = TypeVar("J", bound=Record)
M = TypeVar("M", bound=Record)

_TRIES = 4  # processes that a job gets, when they die under it

TASKS: dict[str, Task[..., Any]] = {task.name: task for task in (generate, validate, merge, evaluate, pairs, train)}


class TaskExecutor:
    """Used inside a flow. A finished job's manifest comes from the result store; the rest runs."""

    def __init__(self, settings: WorkspaceSettings) -> None:
        self._settings = settings
        self._workspace = workspace_of(settings)
        self._place = place_of(self._workspace)
        storage = result_storage(settings.store).telling(self._place.tell)
        self._tasks = {name: task.with_options(result_storage=storage) for name, task in TASKS.items()}

    def map(self, stage: Stage[J, M], jobs: Sequence[J]) -> list[M]:
        self._refer(stage, jobs)
        futures: list[Any] = []
        with submitting_to(self._place.runner()):
            try:
                for job in jobs:
                    futures.append(self._submit(self._tasks[stage.name], job))
                return [self._manifest(stage, job, future) for job, future in zip(jobs, futures, strict=True)]
            except Pause:  # the run is suspended: what has begun is finished first, nothing new begins
                for future in futures:
                    with suppress(Pause):
                        future.wait()
                raise
            except (KeyboardInterrupt, TerminationSignal):
                self._place.stop()  # running work ends now, before Prefect waits for it
                raise

    def _refer(self, stage: Stage[J, M], jobs: Sequence[J]) -> None:
        results = [digest_of(cache_key(stage.name, stage.version, job)) for job in jobs]
        inside = [one for job in jobs for one in stage.references(job)]
        self._workspace.refer([*inside, *(Reference(TASK_RESULTS, key) for key in results)])

    def _submit(self, task: Task[..., Any], job: J) -> Any:
        with self._place.options(task.name, job):
            return task.submit(**self._place.parameters(job))

    def _ended(self, task: Task[..., Any], job: J, future: Any) -> State[Any]:
        """The final state of a task run; a job whose process died is given to another one."""
        for tries in range(1, _TRIES + 1):
            future.wait()
            state: State[Any] = future.state
            if not self._place.died(state):
                return state
            bury(future.task_run_id, state)
            if tries < _TRIES:
                self._workspace.progress.note(
                    f"{task.name} {job.digest[:12]}: its worker process died; it is done again"
                )
                future = self._submit(task, job)
        raise EngineError(
            f"the worker process of a {task.name} task run died {_TRIES} times ({str(state.data).splitlines()[0]}); finished "
            "work is kept, run the same command again, with smaller batches or more memory per worker"
        )

    def _manifest(self, stage: Stage[J, M], job: J, future: Any) -> M:
        task = self._tasks[stage.name]
        state = self._ended(task, job, future)
        manifest = state.result()
        if not getattr(state.data, "is_persisted", True):
            raise StoreError(
                f"{stage.name}: its result could not be written to the result store; finished work is kept, mend the "
                "store (space, permissions, network) and run the same command again"
            )
        if state.name == "Cached":
            self._workspace.ledger.hit(stage.name, key_of(stage.name, stage.version, job), pieces(job))
        checked = stage.manifest.model_validate(manifest)
        if isinstance(checked, TrainManifest) and not self._workspace.holds(checked.factory.sha256):
            # The record of the training is here but its checkpoint is not: do the work again.
            again = task.with_options(refresh_cache=True)
            redone = self._ended(again, job, self._submit(again, job))
            checked = stage.manifest.model_validate(redone.result())
        if isinstance(checked, TrainManifest):
            self._workspace.refer_checkpoint(checked.factory.sha256)
        return checked
