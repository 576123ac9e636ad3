"""A stage by name, and who runs it: in-process threads here, Prefect tasks in `tasks/`. The loop does not care."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from selfdev_core.records import (
    EvaluateManifest,
    GenerateManifest,
    MergeManifest,
    PairsManifest,
    Record,
    TrainManifest,
    ValidateManifest,
)
from selfdev_core.scratch import told_when_full
from selfdev_core.stages import evaluate, generate, merge, pairs, train, validate
from selfdev_core.stages.jobs import EvaluateJob, GenerateJob, MergeJob, PairsJob, TrainJob, ValidateJob, key_of
from selfdev_core.store.references import Reference
from selfdev_core.workspace import Workspace

J = TypeVar("J", bound=Record)
M = TypeVar("M", bound=Record)


def _nothing(_: object) -> list[Reference]:
    return []


def _merged(job: MergeJob) -> list[Reference]:
    return merge.references(job.programs, job.models, job.limits)


@dataclass(frozen=True)
class Stage(Generic[J, M]):
    """A step of the method: its name and version (parts of the cache key) and the function that does it.

    `references` names the records that a job makes or finds in the store, before it runs.
    """

    name: str
    version: int
    run: Callable[[J, Workspace], M]
    manifest: type[M]
    references: Callable[[J], list[Reference]] = _nothing


GENERATE: Stage[GenerateJob, GenerateManifest] = Stage(
    generate.NAME, generate.VERSION, generate.generate, GenerateManifest, generate.references
)
VALIDATE: Stage[ValidateJob, ValidateManifest] = Stage(
    validate.NAME, validate.VERSION, validate.validate, ValidateManifest, validate.references
)
MERGE: Stage[MergeJob, MergeManifest] = Stage(merge.NAME, merge.VERSION, merge.merge, MergeManifest, _merged)
EVALUATE: Stage[EvaluateJob, EvaluateManifest] = Stage(
    evaluate.NAME, evaluate.VERSION, evaluate.evaluate, EvaluateManifest, evaluate.references
)
PAIRS: Stage[PairsJob, PairsManifest] = Stage(pairs.NAME, pairs.VERSION, pairs.pairs, PairsManifest)
TRAIN: Stage[TrainJob, TrainManifest] = Stage(train.NAME, train.VERSION, train.train, TrainManifest, train.references)
STAGES: tuple[Stage[Any, Any], ...] = (GENERATE, VALIDATE, MERGE, EVALUATE, PAIRS, TRAIN)


def perform(stage: Stage[J, M], job: J, workspace: Workspace, attempt: int = 1) -> M:
    """Do a job, with the ledger open for what is done in it. `attempt` is above 1 when it was tried before in vain."""
    with workspace.ledger.job(stage.name, key_of(stage.name, stage.version, job)), told_when_full():
        if attempt > 1:
            workspace.ledger.retry(f"attempt {attempt}")
        return stage.run(job, workspace)


class Executor(Protocol):
    def map(self, stage: Stage[J, M], jobs: Sequence[J]) -> list[M]:
        """Do all jobs of a stage, some at once perhaps; manifests in the order of the jobs. Raises what a job raises."""


class DirectExecutor:
    """Runs jobs in threads of this process, with no orchestration: for tests, and to measure what Prefect costs."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def map(self, stage: Stage[J, M], jobs: Sequence[J]) -> list[M]:
        self._workspace.refer(one for job in jobs for one in stage.references(job))
        with ThreadPoolExecutor(self._workspace.settings.workers) as threads:
            made = list(threads.map(lambda job: perform(stage, job, self._workspace), jobs))
        for manifest in made:
            if isinstance(manifest, TrainManifest):
                self._workspace.refer_checkpoint(manifest.factory.sha256)
        return made
