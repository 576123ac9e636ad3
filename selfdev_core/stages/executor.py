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
from selfdev_core.stages import evaluate, generate, merge, pairs, train, validate
from selfdev_core.stages.jobs import EvaluateJob, GenerateJob, MergeJob, PairsJob, TrainJob, ValidateJob
from selfdev_core.workspace import Workspace

J = TypeVar("J", bound=Record)
M = TypeVar("M", bound=Record)


@dataclass(frozen=True)
class Stage(Generic[J, M]):
    """A step of the method: its name and version (parts of the cache key) and the function that does it."""

    name: str
    version: int
    run: Callable[[J, Workspace], M]
    manifest: type[M]


GENERATE: Stage[GenerateJob, GenerateManifest] = Stage(
    generate.NAME, generate.VERSION, generate.generate, GenerateManifest
)
VALIDATE: Stage[ValidateJob, ValidateManifest] = Stage(
    validate.NAME, validate.VERSION, validate.validate, ValidateManifest
)
MERGE: Stage[MergeJob, MergeManifest] = Stage(merge.NAME, merge.VERSION, merge.merge, MergeManifest)
EVALUATE: Stage[EvaluateJob, EvaluateManifest] = Stage(
    evaluate.NAME, evaluate.VERSION, evaluate.evaluate, EvaluateManifest
)
PAIRS: Stage[PairsJob, PairsManifest] = Stage(pairs.NAME, pairs.VERSION, pairs.pairs, PairsManifest)
TRAIN: Stage[TrainJob, TrainManifest] = Stage(train.NAME, train.VERSION, train.train, TrainManifest)
STAGES: tuple[Stage[Any, Any], ...] = (GENERATE, VALIDATE, MERGE, EVALUATE, PAIRS, TRAIN)


class Executor(Protocol):
    def map(self, stage: Stage[J, M], jobs: Sequence[J]) -> list[M]:
        """Do all jobs of a stage, some at once perhaps; manifests in the order of the jobs. Raises what a job raises."""


class DirectExecutor:
    """Runs jobs in threads of this process, with no orchestration: for tests, and to measure what Prefect costs."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def map(self, stage: Stage[J, M], jobs: Sequence[J]) -> list[M]:
        with ThreadPoolExecutor(self._workspace.settings.workers) as threads:
            return list(threads.map(lambda job: stage.run(job, self._workspace), jobs))
