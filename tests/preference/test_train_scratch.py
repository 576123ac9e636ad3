"""The stage around DPO: what it leaves in scratch space, whatever the validity guard says."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from selfdev_core.errors import EngineError
from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.preference.dpo import Training, Update, train_factory
from selfdev_core.records import Cost, FactoryRef, GenerateManifest, ModelRef, ModelSet
from selfdev_core.stages import train as stage
from selfdev_core.stages.jobs import GenerateJob, TrainJob
from selfdev_core.training import DpoConfig
from selfdev_core.workspace import Limits, Workspace, WorkspaceSettings
from tests.conftest import Family


class _Pool:
    """Trains by copying an expert."""

    device = "cpu"

    def __init__(self, trained: Path) -> None:
        self._trained = trained

    def call(self, work: Any, *given: Any, worker: int) -> Any:
        if work is not train_factory:
            return work(*given)
        update: Update = given[0]
        shutil.copytree(self._trained, update.out)
        return Training([0.5], [0.1])

    def close(self) -> None:
        pass


@pytest.mark.parametrize("fails_at", [None, 0, 1])
def test_no_factory_stays_in_scratch_space(
    pico: Family, tmp_path: Path, fails_at: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SELFDEV_HOME", str(tmp_path / "home"))
    seed = Checkpoint(pico.seed).sha256()
    workspace: Any = Workspace(
        WorkspaceSettings(store=str(tmp_path / "store"), models={seed: str(pico.seed)}, workers=1)
    )
    workspace.pool = _Pool(pico.experts["alpha"])
    factories: list[FactoryRef] = []
    lying: list[int] = []

    def generate(job: GenerateJob, _: Workspace) -> GenerateManifest:
        if len(factories) == fails_at:
            raise EngineError("the worker died")
        factories.append(job.factory)
        lying.append(len(list(workspace.scratch.glob("factory-*"))))
        return GenerateManifest(samples=(), temperature=1.0, cost=Cost())

    monkeypatch.setattr(stage, "generate", generate)
    monkeypatch.setattr(stage, "_valid_share", lambda *_: 0.0)
    factory, limits = FactoryRef(sha256=seed), Limits(seconds=1.0, memory_gb=1.0)
    guard = GenerateJob(
        factory=factory, prompt="", start=0, count=1, temperature=1.0, top_p=1.0, seed=0, max_new_tokens=1, batch_size=1
    )
    plain = ModelRef(name="seed", sha256=seed)
    models = ModelSet(seed=plain, experts=(plain,), scope="mlp")
    job = TrainJob(
        factory=factory, prompt="", pairs=(), settings=DpoConfig(), guard=guard, models=models, limits=limits, seed=0
    )
    try:
        if fails_at is None:
            made = stage.train(job, workspace)
            assert made.step_share == 0.0 and len({one.sha256 for one in factories}) == 3
        else:
            with pytest.raises(EngineError):
                stage.train(job, workspace)
        assert set(lying) <= {1} and not list(workspace.scratch.glob("factory-*"))
        for one in factories:  # in the store all are
            assert Checkpoint(workspace.folder(one.sha256)).shapes
    finally:
        workspace.close()
