"""Where the work is done: store, worker processes, sandboxes, scratch space. Nothing in it changes a result.

Stages take a record (what to compute, part of the cache key) and a workspace (with what). A task on any machine opens
its workspace from `WorkspaceSettings`, which is small plain data.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import Field

from selfdev_core.engines.choose import engine_of
from selfdev_core.engines.config import EngineConfig
from selfdev_core.engines.protocol import Engine
from selfdev_core.errors import CheckpointError, CorruptRecord
from selfdev_core.evaluation.graders.pool import GraderPool
from selfdev_core.ledger.journal import Journal
from selfdev_core.ledger.meter import Meter
from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.merging.merge import Runner, write_bundles
from selfdev_core.merging.stamps import Stamps, check_unchanged, stamps_of
from selfdev_core.progress import Progress, Silent
from selfdev_core.records import Cost, FactoryRef, Level, ModelSet, Record
from selfdev_core.sandbox import layers
from selfdev_core.sandbox.client import Sandbox
from selfdev_core.sandbox.cuda import CudaExecutor
from selfdev_core.scratch import Scratch
from selfdev_core.store.artifacts import CHECKPOINTS, ArtifactStore
from selfdev_core.store.references import Reference
from selfdev_core.workers.pool import WorkerPool

R = TypeVar("R", bound=Record)
_BIG = 256 * 2**20  # bytes from which on storing a checkpoint says how far it is


class Limits(Record):
    """Of one run of a program: wall seconds, GiB of memory, and the device on which it merges."""

    seconds: float
    memory_gb: float
    device: str = "cpu"


class RayCluster(Record):
    """A Ray cluster that runs the stages: its address (empty: one on this machine) and GPUs per task run that holds a model."""

    address: str = ""
    gpus_per_worker: float = 0.0


@dataclass
class Work:
    """What a counted block tells of itself: how much it did, and whether another process stored it first."""

    amount: Cost = field(default_factory=Cost)
    raced: bool = False


class FactoryFolders(NamedTuple):
    """Where a factory lies: its model, and the adapter on it if it is not a whole checkpoint."""

    model: Path
    adapter: Path | None


class WorkspaceSettings(Record):
    store: str = Field(description="A folder, or s3://bucket/prefix; credentials are never part of it.")
    campaign: str = Field(default="", description="Whose references the store keeps; empty: nobody's.")
    models: dict[str, str] = Field(description="Checkpoint sha256 → folder.")
    stamps: dict[str, Stamps] = Field(
        default={},
        description="Checkpoint sha256 → how its files looked; a model without them is read once and compared.",
    )
    workers: int
    least_level: Level | None = None
    engine: EngineConfig = EngineConfig()
    dtype: str = Field(default="float32", description="In which the models compute; as `engines.choose.dtype_of` says.")
    ray: RayCluster | None = Field(default=None, description="None: stages run in this process.")
    save_steps: int = Field(
        default=50, description="Optimiser steps after which training can go on when it was killed."
    )
    scratch_gb: float = Field(
        default=2.0,
        description="GiB of merged weights that may wait for their evaluation, or one merged model per worker if that is more; "
        "0: none waits.",
    )


class Workspace:
    """Opened once per process and settings (`open_workspace`); everything in it starts when it is first needed."""

    def __init__(self, settings: WorkspaceSettings) -> None:
        self.settings = settings
        self.store = ArtifactStore(settings.store)
        self.progress: Progress = Silent()
        self._scratch = Scratch()
        self.scratch = self._scratch.path
        self.pool = WorkerPool(settings.workers if settings.ray is None else 0, self.scratch, settings.dtype)
        self.graders = GraderPool(settings.workers)
        self.ledger = Journal(settings.campaign, self.store, lambda text: self.progress.note(text))
        self.pool.retried = self.ledger.retry
        self.engine: Engine = engine_of(
            settings.engine,
            settings.dtype,
            settings.workers,
            self.pool,
            self.scratch,
            self.ledger.retry,
            lambda text: self.progress.note(text),
        )
        self._damaged: set[tuple[str, str]] = set()
        self._sandboxes: dict[str, Sandbox] = {}
        self._genuine: set[str] = set()
        self._stamps = dict(settings.stamps)
        self._lock = threading.Lock()

    def close(self) -> None:
        """End workers and sandboxes, remove the scratch folder and put the ledger into the store."""
        self.stop_models()
        self.graders.close()
        for sandbox in self._sandboxes.values():
            sandbox.close()
        self._sandboxes.clear()
        self._scratch.close()
        self.ledger.close()

    def stop_models(self) -> None:
        """End the processes that hold models, at once if they are busy."""
        self.engine.close()
        self.pool.close()

    def folder(self, sha256: str) -> Path:
        """Folder of a checkpoint: a model of the campaign, or a factory in the store.

        Raises: CheckpointError when it is in neither, the stored one is damaged or the model has changed (`unchanged`).
        """
        if sha256 in self.settings.models:
            self.unchanged(sha256)
            return Path(self.settings.models[sha256])
        if not self.holds(sha256):
            raise CheckpointError(
                f"checkpoint {sha256[:12]} is not in the store; run the campaign again to make it anew"
            )
        return self.store.cache / sha256

    def unchanged(self, *models: str) -> None:
        """Look whether models of the campaign still are what they were when their digests were taken.

        Raises: CheckpointError naming the file that has changed, or the folder that holds another model on this machine.
        """
        for sha256 in models:
            if sha256 not in self.settings.models:
                continue
            folder = Path(self.settings.models[sha256])
            if sha256 not in self._stamps:
                model = Checkpoint(folder)
                stamps = stamps_of(model)
                if model.sha256() != sha256:
                    raise CheckpointError(
                        f"{folder}: is not the model {sha256[:12]} of the campaign; copy it here from the machine that started it"
                    )
                self._stamps[sha256] = stamps
            check_unchanged(folder, self._stamps[sha256])

    def factory(self, factory: FactoryRef) -> FactoryFolders:
        """Folders of a factory. Raises: CheckpointError as `folder` does."""
        if factory.base:
            return FactoryFolders(self.folder(factory.base), self.folder(factory.sha256))
        return FactoryFolders(self.folder(factory.sha256), None)

    def holds(self, sha256: str) -> bool:
        """Whether a checkpoint is here and intact; a damaged one in the store is dropped, so that it is made again."""
        if sha256 in self.settings.models:
            return True
        try:
            folder = self.store.checkpoint_folder(sha256)
            if folder is None:
                return False
            if sha256 not in self._genuine:
                if Checkpoint(folder).sha256(self.store.checkpoint_digests(sha256)) != sha256:
                    raise CheckpointError("another checkpoint's content")
                self._genuine.add(sha256)
            return True
        except (CorruptRecord, CheckpointError) as fault:
            self.progress.note(f"checkpoint {sha256[:12]} in the store is damaged ({fault}); it is made again")
            self.store.drop_checkpoint(sha256)
            return False

    def keep_checkpoint(self, folder: Path) -> str:
        """Put a checkpoint folder into the store and return its identity; a big one says how far it is."""
        sha256 = Checkpoint(folder).sha256()
        told = 0

        def report(done: int, total: int) -> None:
            nonlocal told
            tenth = 10 * done // total if total >= _BIG else 0
            if tenth > told:
                told = tenth
                self.progress.note(f"checkpoint {sha256[:12]}: {done / 1e9:.1f} of {total / 1e9:.1f} GB stored")

        self.store.add_checkpoint(folder, sha256, report)
        if not self.holds(sha256):  # a part that was there already is damaged, and now dropped
            self.store.add_checkpoint(folder, sha256)
        return sha256

    def refer(self, references: Iterable[Reference]) -> None:
        """Note what this campaign needs, so that `selfdev gc` keeps it."""
        if self.settings.campaign:
            self.store.refer(self.settings.campaign, references)

    def refer_checkpoint(self, sha256: str) -> None:
        """Note that this campaign needs a stored checkpoint; its own models are not in the store."""
        if sha256 not in self.settings.models:
            self.refer([Reference(CHECKPOINTS, sha256)])

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
            self._damaged.add((kind, key))
            return None

    def was_damaged(self, kind: str, key: str) -> bool:
        """Whether this process found a damaged record under this key."""
        return (kind, key) in self._damaged

    def remember(
        self,
        stage: str,
        kind: str,
        key: str,
        model: type[R],
        compute: Callable[[], R],
        amount: Callable[[R], Cost],
        device: str = "cpu",
    ) -> R:
        """The stored record, or the computed one, stored. When another process was first, its record counts.

        The ledger gets a hit, or, once the record is stored, a unit of work; `amount` says how many programs, questions
        and tokens a record stands for.
        """
        record = self.remembered(kind, key, model)
        if record is not None:
            self.ledger.hit(stage, key)
            return record
        with self.counted(stage, key, device, remade=self.was_damaged(kind, key)) as work:
            made = compute()
            record = self.store.add(kind, key, made)
            work.amount, work.raced = amount(record), record is not made
        return record

    @contextmanager
    def counted(self, stage: str, key: str, device: str = "cpu", remade: bool = False) -> Iterator[Work]:
        """Write the work of the block to the ledger: as done when the block ends, as lost when it raises.

        `device` is where the work is done when it is not in a worker; `remade`: its record was damaged or gone.
        """
        work = Work()
        meter = Meter()

        def took() -> tuple[Cost, str, float]:
            cost = work.amount.model_copy(update={"seconds": round(meter.seconds, 4)})
            if device != "cpu":  # the workers know what it is called
                return cost, self.engine.device or self.pool.device or device, cost.seconds
            here = self.engine.device or self.pool.device or "cpu"
            return cost, here if meter.occupied else "cpu", round(meter.occupied, 4)

        try:
            with meter:
                yield work
        except BaseException as error:
            self.ledger.lost(stage, key, *took(), why=type(error).__name__)
            raise
        self.ledger.done(stage, key, *took(), remade=remade, raced=work.raced)


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
