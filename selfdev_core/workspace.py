"""Where the work is done: store, worker processes, sandboxes, scratch space. Nothing in it changes a result.

Stages take a record (what to compute, part of the cache key) and a workspace (with what). A task on any machine opens
its workspace from `WorkspaceSettings`, which is small plain data.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

from pydantic import Field

from selfdev_core.errors import CheckpointError, CorruptRecord
from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.merging.merge import Runner, write_bundles
from selfdev_core.progress import Progress, Silent
from selfdev_core.records import Level, ModelSet, Record
from selfdev_core.sandbox import layers
from selfdev_core.sandbox.client import Sandbox
from selfdev_core.sandbox.cuda import CudaExecutor
from selfdev_core.store.artifacts import ArtifactStore
from selfdev_core.workers.pool import WorkerPool

R = TypeVar("R", bound=Record)


class Limits(Record):
    """Of one run of a program: wall seconds, GiB of memory, and the device on which it merges."""

    seconds: float
    memory_gb: float
    device: str = "cpu"


class WorkspaceSettings(Record):
    store: str
    models: dict[str, str] = Field(description="Checkpoint sha256 → folder.")
    workers: int
    least_level: Level | None = None


class Workspace:
    """Opened once per process and settings (`open_workspace`); everything in it starts when it is first needed."""

    def __init__(self, settings: WorkspaceSettings) -> None:
        self.settings = settings
        self.store = ArtifactStore(Path(settings.store))
        self.pool = WorkerPool(settings.workers)
        self.progress: Progress = Silent()
        self.scratch = Path(tempfile.mkdtemp(prefix="selfdev-"))
        self._sandboxes: dict[str, Sandbox] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """End workers and sandboxes and remove the scratch folder."""
        self.pool.close()
        for sandbox in self._sandboxes.values():
            sandbox.close()
        self._sandboxes.clear()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def folder(self, sha256: str) -> Path:
        """Folder of a checkpoint: a model of the campaign, or a factory in the store.

        Raises: CheckpointError when it is in neither.
        """
        known = self.settings.models.get(sha256)
        folder = Path(known) if known else self.store.checkpoint_folder(sha256)
        if folder is None:
            raise CheckpointError(
                f"checkpoint {sha256[:12]} is not in the store; run the campaign again to make it anew"
            )
        return folder

    def holds(self, sha256: str) -> bool:
        """Whether a checkpoint is here and intact; a damaged one in the store is dropped, so that it is made again."""
        if sha256 in self.settings.models:
            return True
        folder = self.store.checkpoint_folder(sha256)
        if folder is None:
            return False
        try:
            intact = Checkpoint(folder).sha256() == sha256
        except CheckpointError:
            intact = False
        if not intact:
            self.progress.note(f"checkpoint {sha256[:12]} in the store is damaged; it is made again")
            self.store.drop_checkpoint(sha256)
        return intact

    def sandbox(self, models: ModelSet, limits: Limits) -> Sandbox:
        """The warm sandbox that holds the task vectors of a model set.

        Raises: SandboxError when this machine gives less than the least level of the settings.
        """
        key = models.digest + limits.digest
        with self._lock:
            if key not in self._sandboxes:
                level = layers.grant(self.settings.least_level)
                folder = self.scratch / f"bundles-{models.digest[:16]}"
                folder.mkdir(exist_ok=True)
                seed = Checkpoint(self.folder(models.seed.sha256))
                experts = {ref.name: Checkpoint(self.folder(ref.sha256)) for ref in models.experts}
                bundles = write_bundles(seed, experts, models.scope, folder)
                self._sandboxes[key] = Sandbox(bundles, limits.seconds, limits.memory_gb, level=level)
            return self._sandboxes[key]

    def merger(self, models: ModelSet, limits: Limits) -> Runner:
        """What runs programs on the real task vectors: the sandbox itself, or on a GPU what stands behind it."""
        sandbox = self.sandbox(models, limits)
        if limits.device == "cpu":
            return sandbox
        return CudaExecutor(sandbox, limits.seconds, limits.memory_gb, limits.device)

    def remembered(self, kind: str, key: str, model: type[R]) -> R | None:
        """A stored record; a corrupt one is reported and treated as absent, so that it is computed again."""
        try:
            return self.store.read(kind, key, model)
        except CorruptRecord as fault:
            self.progress.note(f"{fault}; it is computed again")
            return None

    def remember(self, kind: str, key: str, model: type[R], compute: Callable[[], R]) -> R:
        """The stored record, or the computed one, stored."""
        record = self.remembered(kind, key, model)
        if record is None:
            record = compute()
            self.store.write(kind, key, record)
        return record


@cache
def open_workspace(settings_json: str) -> Workspace:
    """The workspace of this process for these settings."""
    return Workspace(WorkspaceSettings.model_validate_json(settings_json))


def workspace_of(settings: WorkspaceSettings) -> Workspace:
    return open_workspace(settings.model_dump_json())


def close_workspaces(settings: WorkspaceSettings) -> None:
    """Close the workspace of these settings; the next use opens a new one."""
    workspace_of(settings).close()
    open_workspace.cache_clear()
