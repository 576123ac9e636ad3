"""The loop's real stages with nothing in them: programs made by arithmetic, every verdict good, every answer known.

What is left is what surrounds the work: jobs, task runs, records in the store, calls to worker processes. The three
functions below run in worker processes in the place of their namesakes in `selfdev_core`.
"""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable
from typing import Any

import selfdev_core.stages.validate as validation
from selfdev_core.algorithm.prompt import continuation_of
from selfdev_core.engines.local import TransformersEngine
from selfdev_core.miniature.programs import sample_program
from selfdev_core.preference.dpo import Training, Update
from selfdev_core.records import Verdict
from selfdev_core.sandbox.received import Run, Sink
from selfdev_core.workers.generation import Generated
from selfdev_core.workers.pool import WorkerPool
from selfdev_core.workspace import Workspace


def sample_programs(_folder: str, prompt: str, count: int, *settings: Any) -> list[Generated]:
    """Programs of the miniature's grammar, every one different from all others of the campaign."""
    seed = int(settings[2])
    drawn = []
    for number in range(seed, seed + count):
        source = f"{sample_program(random.Random(number))} * 1.{number:012d}"
        drawn.append(Generated(continuation_of(prompt, source), tokens=100, finished=True))
    return drawn


def answer(_folder: str, weights: str | None, prompts: list[str], *_: Any) -> list[tuple[str, int]]:
    """Right or wrong by a digest, so that programs differ in score."""
    marks = hashlib.sha256(str(weights).rpartition("/")[2].encode()).digest()
    return [(f"#### {marks[i % 32] % 7}", 4) for i in range(len(prompts))]


def train_factory(update: Update, *_: Any) -> Training:
    """The same factory again."""
    shutil.copytree(update.folder, update.out)
    return Training([0.5], [0.0])


_TRIVIAL: dict[str, Callable[..., Any]] = {f.__name__: f for f in (sample_programs, answer, train_factory)}


class TrivialPool(WorkerPool):
    """Real worker processes that are asked trivial things."""

    def call(self, function: Callable[..., Any], *args: Any, worker: int | None = None) -> Any:
        return super().call(_TRIVIAL[function.__name__], *args, worker=worker)

    def start(self) -> None:
        """Start every worker and wait until it answers."""
        for worker in range(len(self._workers)):
            super().call(sum, [], worker=worker)


class _Runner:
    def run(self, _source: str, _bundle: str, *, sink: Sink | None = None) -> Run:
        if sink is not None:
            sink.begin()
        return Run("accepted", "", {})


def _good(algorithm_id: str, _source: str, _sandbox: object) -> Verdict:
    return Verdict(algorithm_id=algorithm_id, reason="accepted", fingerprint=algorithm_id[:16])


def make_trivial(workspace: Workspace) -> None:
    """Empty the stages of this process; the workspace's workers are started."""
    pool = TrivialPool(workspace.settings.workers, workspace.scratch)
    pool.start()
    validation.validate_program = _good
    place: Any = workspace
    place.pool, place.sandbox, place.merger = pool, lambda *_: None, lambda *_: _Runner()
    place.engine = TransformersEngine(pool)
