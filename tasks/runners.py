"""Where task runs of a stage go: threads of this process, or Ray.

A place gives Prefect's task runner for one stage and the parameters of a task run. The executor owns it, so a flow runs its
stages where the campaign's settings say, whoever started the flow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Protocol
from uuid import UUID

from prefect import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.utilities.annotations import opaque

from selfdev_core.records import Record
from selfdev_core.workspace import Workspace

Runner = TaskRunner[PrefectFuture[Any]]


class Place(Protocol):
    """Where the task runs of a campaign go."""

    @property
    def tell(self) -> Callable[[str], None]:
        """Takes notes from task runs for whoever watches the campaign."""

    def runner(self) -> Runner:
        """A task runner for one stage. Raises: SelfdevError when it cannot be had."""

    def parameters(self, job: Record) -> dict[str, Any]:
        """What a task run is given."""

    def options(self, stage: str, job: Record) -> AbstractContextManager[object]:
        """In force while a job is submitted."""

    def died(self, state: State[Any]) -> bool:
        """Whether a task run ended so because the process under it died."""

    def stop(self) -> None:
        """End running work now."""


class Threads:
    """Task runs in threads of this process; the heavy work is in the workspace's processes, which are replaced if they die."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @property
    def tell(self) -> Callable[[str], None]:
        return self._workspace.progress.note

    def runner(self) -> Runner:
        runner: Any = ThreadPoolTaskRunner(max_workers=self._workspace.settings.workers)
        return runner  # type: ignore[no-any-return]

    def parameters(self, job: Record) -> dict[str, Any]:
        # Opaque: Prefect would walk through every program of the job, several times, in search of futures.
        return {"job": opaque(job), "settings": opaque(self._workspace.settings)}

    @contextmanager
    def options(self, stage: str, job: Record) -> Iterator[None]:
        yield

    def died(self, state: State[Any]) -> bool:
        return False  # threads die with their flow; a worker process that dies is an EngineError

    def stop(self) -> None:
        self._workspace.stop_models()


def place_of(workspace: Workspace) -> Place:
    """The place that the workspace's settings name."""
    if workspace.settings.ray is None:
        return Threads(workspace)
    from tasks.on_ray import OnRay

    return OnRay(workspace, workspace.settings.ray)


def bury(task_run_id: UUID, state: State[Any]) -> None:
    """Tell the server that a task run is dead: its process could not."""
    with suppress(Exception), get_client(sync_client=True) as client:
        client.set_task_run_state(task_run_id, state, force=True)


@contextmanager
def submitting_to(runner: Runner) -> Iterator[None]:
    """Within it the flow run submits to this runner; at its end all that was submitted is done or cancelled."""
    context = FlowRunContext.get()
    if context is None:
        raise RuntimeError("stages are submitted inside a flow run")
    with runner, context.model_copy(update={"task_runner": runner}):
        yield
