"""Two processes that train the same factory go on with one of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from selfdev_core.records import Cost, FactoryRef, TrainManifest
from selfdev_core.stages import train as stage
from selfdev_core.stages.jobs import key_of
from selfdev_core.workspace import Workspace, WorkspaceSettings


def trained(sha256: str) -> TrainManifest:
    return TrainManifest(
        factory=FactoryRef(sha256=sha256, parent="seed"),
        step_share=1.0,
        valid_share=1.0,
        losses=(),
        reward_margins=(),
        cost=Cost(),
    )


@pytest.mark.parametrize(("held", "counts"), [("theirs", "theirs"), ("nobody", "ours")])
def test_the_training_that_was_stored_first_counts_while_its_factory_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: str, counts: str
) -> None:
    monkeypatch.setenv("SELFDEV_HOME", str(tmp_path / "home"))
    models = {"ours": str(tmp_path), held: str(tmp_path)}
    workspace = Workspace(WorkspaceSettings(store=str(tmp_path / "store"), campaign="mine", models=models, workers=1))
    job: Any = SimpleNamespace(digest="0" * 64)
    key = key_of(stage.NAME, stage.VERSION, job)

    def while_another_does_it_too(_: object, workspace: Workspace) -> TrainManifest:
        workspace.store.write("trained", key, trained("theirs"))
        return trained("ours")

    monkeypatch.setattr(stage, "_train", while_another_does_it_too)
    try:
        assert stage.train(job, workspace).factory.sha256 == counts
        kept = workspace.store.read("trained", key, TrainManifest)
        assert kept is not None and kept.factory.sha256 == counts
    finally:
        workspace.close()
