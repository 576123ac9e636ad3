"""Task runs on a Ray cluster, through prefect-ray.

Each Ray worker process opens its own workspace, with one model process and one sandbox, and keeps both for the next task run.
The cluster stays connected from stage to stage. A Ray worker that dies takes its task run with it; the executor submits the
job again, and what the dead one had stored is not done twice.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import cache
from types import TracebackType
from typing import Any, Self

from prefect.client.schemas.objects import State

from selfdev_core.errors import ConfigError, EngineError
from selfdev_core.progress import Progress
from selfdev_core.records import Record
from selfdev_core.workspace import RayCluster, Workspace
from tasks.runners import Runner

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # a late look at a future must not start another cluster
try:
    import ray
    from prefect_ray import RayTaskRunner
    from prefect_ray.context import remote_options
except ImportError as error:
    raise ConfigError(
        f"resources.runner: ray is not installed here ({error}); pip install selfdev[ray], on every node, or use runner: threads"
    ) from None

_OBJECTS = 100 * 2**20  # bytes of Ray's object store on a local cluster: jobs and manifests are small
_LOOK = 0.5  # seconds between two looks into the mailbox
_MODELS = ("generate", "evaluate", "train")  # stages whose worker holds a model


class OnRay:
    """A Ray cluster as a place for task runs; a local one is started when no address is given."""

    def __init__(self, workspace: Workspace, cluster: RayCluster) -> None:
        self._workspace = workspace
        self._cluster = cluster
        # Another machine has other files: there a model is known by its content.
        own: dict[str, Any] = {"workers": 1, "ray": None, "scratch_gb": 0.0, "stamps": {}}
        self._settings = workspace.settings.model_copy(update=own)
        _connect(cluster, workspace.settings.workers)
        self.relay = Relay(_mailbox(ray.get_runtime_context().get_job_id()), close=cluster.gpus_per_worker > 0)

    @property
    def tell(self) -> Callable[[str], None]:
        return self.relay.note

    def runner(self) -> Runner:
        runner: Any = _Connected(self.relay, self._workspace)
        return runner  # type: ignore[no-any-return]

    def parameters(self, job: Record) -> dict[str, Any]:
        # Not opaque: Prefect's annotations do not come through pickle as they went in.
        return {"job": job, "settings": self._settings, "relay": self.relay}

    def options(self, stage: str, job: Record) -> AbstractContextManager[object]:
        limits = getattr(job, "limits", None)
        on_gpu = stage in _MODELS or (stage == "merge" and limits is not None and limits.device != "cpu")
        gpus = self._cluster.gpus_per_worker if on_gpu else 0
        # Ray would run a dead worker's task run again under the same id, which Prefect takes for a task run that is over.
        context: AbstractContextManager[object] = remote_options(num_cpus=1, num_gpus=gpus, max_retries=0)
        return context

    def died(self, state: State[Any]) -> bool:
        error = state.data
        return isinstance(error, ray.exceptions.RayError) and not isinstance(error, ray.exceptions.RayTaskError)

    def stop(self) -> None:
        ray.shutdown()


class Relay:
    """Progress of a task run on its way to the driver. Small plain data and an actor's handle, so Ray can carry it.

    `close`: whether a task run ends by closing its workspace. Ray ends the process of a task run that had a GPU; closing it
    first frees the GPU's memory before the next one comes.
    """

    def __init__(self, mailbox: Any, close: bool) -> None:
        self._mailbox = mailbox
        self.close = close

    def stage(self, name: str, total: int) -> None:
        self._send("stage", name, total)

    def advance(self, items: int = 1) -> None:
        self._send("advance", items)

    def best(self, score: float) -> None:
        self._send("best", score)

    def note(self, text: str) -> None:
        self._send("note", text)

    def deliver(self, progress: Progress) -> None:
        """On the driver: pass on what has come in. Nothing is lost with a mailbox but what was to be shown."""
        with suppress(ray.exceptions.RayError):
            for what, *values in ray.get(self._mailbox.take.remote()):
                getattr(progress, what)(*values)

    def _send(self, *message: Any) -> None:
        self._mailbox.put.remote(message)


class _Mailbox:
    def __init__(self) -> None:
        self._messages: list[tuple[Any, ...]] = []

    def put(self, message: tuple[Any, ...]) -> None:
        self._messages.append(message)

    def take(self) -> list[tuple[Any, ...]]:
        taken, self._messages = self._messages, []
        return taken


@cache
def _mailbox(_job: str) -> Any:
    """One for each connection to a cluster."""
    return ray.remote(_Mailbox).options(num_cpus=0).remote()


class _Connected(RayTaskRunner):  # type: ignore[misc]
    """prefect-ray's runner on the cluster that is connected already; stays connected at its end; delivers progress."""

    def __init__(self, relay: Relay, workspace: Workspace) -> None:
        super().__init__()
        self._relay, self._workspace = relay, workspace
        self._over = threading.Event()

    def __enter__(self) -> Self:
        super().__enter__()
        self._messenger = threading.Thread(target=self._deliver, daemon=True)
        self._messenger.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._messenger.join()
        if ray.is_initialized():
            self._relay.deliver(self._workspace.progress)
        super(RayTaskRunner, self).__exit__(kind, error, trace)

    def _deliver(self) -> None:
        while not self._over.wait(_LOOK):
            self._relay.deliver(self._workspace.progress)


def _connect(cluster: RayCluster, workers: int) -> None:
    """Connect this process, once. Raises: EngineError when no cluster answers."""
    if ray.is_initialized():
        return
    local = {
        "num_cpus": workers,
        "include_dashboard": False,
        "object_store_memory": _OBJECTS,
        "_node_ip_address": "127.0.0.1",
    }
    try:
        ray.init(
            address=cluster.address or "local",
            log_to_driver=False,
            logging_level="ERROR",
            **({} if cluster.address else local),
        )
    except Exception as error:
        where = cluster.address or "on this machine"
        raise EngineError(
            f"resources.ray_address: no Ray cluster {where} ({type(error).__name__}: {str(error).splitlines()[0]}); start one "
            "with `ray start`, or leave ray_address out for a local one"
        ) from error
    has = ray.cluster_resources().get("GPU", 0.0)
    if has < cluster.gpus_per_worker:
        ray.shutdown()
        raise ConfigError(
            f"resources.gpus_per_worker: {cluster.gpus_per_worker:g} asked, but the Ray cluster has {has:g} GPUs; start nodes "
            "with `--num-gpus`, or ask for fewer"
        )
