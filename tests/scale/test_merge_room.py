"""Scratch space does not fill up: merged weights that find no room are not left there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.merging.merge import merged_names
from selfdev_core.records import ModelRef, ModelSet
from selfdev_core.sandbox.received import Run, Sink
from selfdev_core.stages.jobs import MergeJob, Program
from selfdev_core.stages.merge import merge, scratch_file
from selfdev_core.workspace import Limits, Workspace, WorkspaceSettings
from tests.conftest import Family


class _Zeros:
    def __init__(self, seed: Checkpoint) -> None:
        self._seed = seed

    def run(self, _source: str, _bundle: str, *, sink: Sink | None = None) -> Run:
        assert sink is not None
        sink.begin()
        for name in merged_names(self._seed, "mlp"):
            sink.put(name, self._seed.tensor(name).float() * 0)
        return Run("accepted", "", {})


@pytest.mark.parametrize(("room", "left"), [(0.0, 0), (1.0, 3)])
def test_merged_weights_wait_only_while_there_is_room(pico: Family, tmp_path: Path, room: float, left: int) -> None:
    seed = Checkpoint(pico.seed)
    models = ModelSet(
        seed=ModelRef(name="seed", sha256=seed.sha256()), experts=(ModelRef(name="alpha", sha256="0"),), scope="mlp"
    )
    settings = WorkspaceSettings(
        store=str(tmp_path / "store"), models={seed.sha256(): str(pico.seed)}, workers=1, scratch_gb=room
    )
    workspace: Any = Workspace(settings)
    workspace.merger = lambda *_: _Zeros(seed)
    programs = tuple(Program(algorithm_id=f"{n}", source="") for n in range(3))
    job = MergeJob(models=models, limits=Limits(seconds=1.0, memory_gb=1.0), programs=programs)
    try:
        made = merge(job, workspace)
        assert len({one.weights_sha256 for one in made.merged}) == 1 and made.merged[0].weights_sha256
        assert [scratch_file(p, models, workspace).is_file() for p in programs].count(True) == left
    finally:
        workspace.close()
