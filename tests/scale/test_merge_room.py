"""Scratch space does not fill up, and no program is merged twice: not for want of room, not after a restart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from selfdev_core.errors import EngineError
from selfdev_core.evaluation.decoding import Decoding
from selfdev_core.evaluation.graders.spec import GraderSpec
from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.merging.scope import merged_names
from selfdev_core.records import Cost, EvaluateManifest, Merged, MergeManifest, ModelRef, ModelSet, QuestionSet, Verdict
from selfdev_core.resources import ResourcesConfig
from selfdev_core.sandbox.received import Run, Sink
from selfdev_core.stages.jobs import MergeJob, Program
from selfdev_core.stages.merge import merge, merged_weights, scratch_file
from selfdev_core.turns import merge_and_evaluate
from selfdev_core.workspace import Limits, Workspace, WorkspaceSettings
from tests.conftest import Family

LIMITS = Limits(seconds=1.0, memory_gb=1.0)
PROGRAMS = tuple(Program(algorithm_id=f"{n}", source="") for n in range(3))


class _Zeros:
    """Runs every program as one that returns zeros, and counts; `slow`: programs that need more than the limit's seconds."""

    def __init__(self, seed: Checkpoint, slow: Sequence[int] = ()) -> None:
        self._seed = seed
        self._slow = list(slow)
        self.seconds: list[float] = []

    def within(self, limits: Limits) -> _Zeros:
        self.seconds.append(limits.seconds)
        return self

    def run(self, _source: str, _bundle: str, *, sink: Sink | None = None) -> Run:
        assert sink is not None
        sink.begin()
        if len(self.seconds) in self._slow:
            return Run("time-limit", "runs too long", {})
        for name in merged_names(self._seed, "mlp"):
            sink.put(name, self._seed.tensor(name).float() * 0)
        return Run("accepted", "", {})


class Setting:
    """A workspace whose programs are run by `zeros`; `again()` is the next process."""

    def __init__(self, pico: Family, folder: Path, room: float) -> None:
        seed = Checkpoint(pico.seed)
        self.models = ModelSet(
            seed=ModelRef(name="seed", sha256=seed.sha256()), experts=(ModelRef(name="alpha", sha256="0"),), scope="mlp"
        )
        self._settings = WorkspaceSettings(
            store=str(folder / "store"), models={seed.sha256(): str(pico.seed)}, workers=2, scratch_gb=room
        )
        self.zeros = _Zeros(seed)
        self.workspace: Any = None
        self.again()

    def again(self, slow: Sequence[int] = ()) -> None:
        if self.workspace is not None:
            self.workspace.close()
        self.zeros = _Zeros(self.zeros._seed, slow)
        self.workspace = Workspace(self._settings)
        self.workspace.merger = lambda _, limits: self.zeros.within(limits)

    def merge(self, *programs: Program) -> MergeManifest:
        return merge(MergeJob(models=self.models, limits=LIMITS, programs=programs), self.workspace)

    def waiting(self) -> int:
        return sum(scratch_file(program, self.models, self.workspace).is_file() for program in PROGRAMS)


@pytest.fixture
def setting(pico: Family, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Setting]:
    made = Setting(pico, tmp_path, getattr(request, "param", 1.0))
    yield made
    made.workspace.close()


@pytest.mark.parametrize(("setting", "left"), [(0.0, 0), (1e-9, 2), (1.0, 3)], indirect=["setting"])
def test_merged_weights_wait_only_while_there_is_room(setting: Setting, left: int) -> None:
    made = setting.merge(*PROGRAMS)
    assert len({one.weights_sha256 for one in made.merged}) == 1 and made.merged[0].weights_sha256
    assert setting.waiting() == left


def test_a_finished_merge_is_not_done_again_however_the_chunks_are_cut(setting: Setting) -> None:
    first = setting.merge(*PROGRAMS[:2])
    setting.again()
    assert setting.merge(*PROGRAMS).merged[:2] == first.merged
    assert len(setting.zeros.seconds) == 1  # the third program


def test_tensors_that_are_gone_are_made_again_with_patience(setting: Setting) -> None:
    setting.merge(PROGRAMS[0])
    setting.again(slow=[1])
    assert merged_weights(PROGRAMS[0], setting.models, LIMITS, setting.workspace).is_file()
    assert setting.zeros.seconds == [1.0, 4.0]
    setting.again(slow=[1, 2])
    with pytest.raises(EngineError, match=r"program 0 does not merge \(time-limit.*sandbox\.seconds"):
        merged_weights(PROGRAMS[0], setting.models, LIMITS, setting.workspace)


@pytest.mark.parametrize(
    ("setting", "turns"),
    [(1e-9, ["merge 2", "evaluate 2", "merge 1", "evaluate 1"]), (1.0, ["merge 3", "evaluate 3"])],
    indirect=["setting"],
)
def test_merging_and_evaluating_go_by_turns_where_room_is_short(setting: Setting, turns: list[str]) -> None:
    told: list[str] = []

    class Told:
        def map(self, stage: Any, jobs: Sequence[Any]) -> list[Any]:
            programs = [program for job in jobs for program in job.programs]
            told.append(f"{stage.name} {len(programs)}")
            if stage.name == "evaluate":
                return [EvaluateManifest(scorecards=(), cost=Cost())]
            verdicts = [Verdict(algorithm_id=one.algorithm_id, reason="accepted") for one in programs]
            merged = tuple(Merged(algorithm_id=one.algorithm_id, verdict=one) for one in verdicts)
            return [MergeManifest(merged=merged, cost=Cost())]

    plan: Any = SimpleNamespace(
        config=SimpleNamespace(resources=ResourcesConfig(workers=2)),
        models=setting.models,
        limits=LIMITS,
        search=QuestionSet(split="search", sha256="0" * 64, count=1),
        decoding=Decoding(
            template="{question}", max_new_tokens=1, batch_size=1, grader=GraderSpec(name="exact", version="1")
        ),
    )
    merged, _ = merge_and_evaluate(plan, "trained 1 · ", list(PROGRAMS), Told(), setting.workspace)
    assert told == turns
    assert [one.algorithm_id for made in merged for one in made.merged] == ["0", "1", "2"]
