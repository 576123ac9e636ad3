"""What each stage is asked to do. A job's digest, with the stage's name and version, is its cache key.

A job therefore holds everything the outcome depends on, and nothing else: no path, no number of workers.
"""

from __future__ import annotations

from itertools import pairwise

from pydantic import Field

from selfdev_core.config import PreferenceConfig
from selfdev_core.evaluation.decoding import Decoding, default_engine
from selfdev_core.records import (
    Candidate,
    FactoryRef,
    ModelRef,
    ModelSet,
    PreferencePair,
    QuestionSet,
    Record,
    digest_of,
)
from selfdev_core.training import DpoConfig
from selfdev_core.workspace import Limits


def counted(count: int, thing: str) -> str:
    """`1 program`, `4 programs`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


class Program(Record):
    algorithm_id: str
    source: str


class GenerateJob(Record):
    @property
    def label(self) -> str:
        return f"{counted(self.count, 'program')} at T={self.temperature:.2f}"

    factory: FactoryRef
    prompt: str
    start: int
    count: int
    temperature: float
    top_p: float
    max_new_tokens: int
    batch_size: int
    seed: int
    engine: str = Field("", exclude_if=default_engine)


class ValidateJob(Record):
    @property
    def label(self) -> str:
        return counted(len(self.programs), "program")

    models: ModelSet
    limits: Limits
    programs: tuple[Program, ...]


class MergeJob(Record):
    @property
    def label(self) -> str:
        return counted(len(self.programs), "program")

    models: ModelSet
    limits: Limits
    programs: tuple[Program, ...]


class EvaluateJob(Record):
    """Score programs (merged into the seed) and plain models on one block of questions."""

    @property
    def label(self) -> str:
        models = counted(len(self.programs) + len(self.plain), "model")
        return f"{models} on {counted(self.questions.count, f'{self.questions.split} question')}"

    models: ModelSet
    limits: Limits
    questions: QuestionSet
    decoding: Decoding
    programs: tuple[Program, ...] = ()
    plain: tuple[ModelRef, ...] = ()


class PairsJob(Record):
    """`rounds`: candidates of every iteration so far, the current one last."""

    @property
    def label(self) -> str:
        return f"from {counted(sum(map(len, self.rounds)), 'candidate')}"

    settings: PreferenceConfig
    prompt: str
    rounds: tuple[tuple[Candidate, ...], ...]
    seed: int


class TrainJob(Record):
    @property
    def label(self) -> str:
        return f"on {counted(len(self.pairs), 'pair')}"

    factory: FactoryRef
    prompt: str
    pairs: tuple[PreferencePair, ...]
    settings: DpoConfig
    guard: GenerateJob
    models: ModelSet
    limits: Limits
    seed: int


def chunks(programs: list[Program], size: int, workers: int = 1) -> list[tuple[Program, ...]]:
    """Programs in order, cut into chunks of nearly equal length, none longer than `size`, as many for each worker."""
    rounds = -(-len(programs) // (size * workers))
    count = min(len(programs), rounds * workers)
    cuts = [len(programs) * i // count for i in range(count + 1)] if count else [0]
    return [tuple(programs[a:b]) for a, b in pairwise(cuts)]


def pieces(job: Record) -> int:
    """How many units of work a job is: its programs and plain models, or itself."""
    if isinstance(job, EvaluateJob):
        return len(job.programs) + len(job.plain)
    return len(job.programs) if isinstance(job, ValidateJob | MergeJob) else 1


def key_of(stage: str, version: int, job: Record) -> str:
    """Cache key of a stage's work: its name, its version and the content of its job."""
    return digest_of([stage, version, job.digest])
