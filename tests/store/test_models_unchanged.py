"""A campaign's models lie in folders of the user's own: what is stored under their digests must be theirs to the end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from selfdev_core.errors import CheckpointError
from selfdev_core.evaluation.decoding import Decoding
from selfdev_core.evaluation.graders.spec import GraderSpec
from selfdev_core.evaluation.questions import QuestionBlock, QuestionItem, store_questions
from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.merging.scope import merged_names
from selfdev_core.prepare import Models, check_models
from selfdev_core.sandbox.received import Run, Sink
from selfdev_core.stages.evaluate import evaluate
from selfdev_core.stages.jobs import EvaluateJob, Program
from selfdev_core.stages.merge import merged_weights, scratch_file
from selfdev_core.workspace import Limits, Workspace, WorkspaceSettings
from tests.conftest import Family

LIMITS = Limits(seconds=60.0, memory_gb=2.0)
PROGRAM = Program(algorithm_id="a-1", source="")
ASKED = Decoding(template="{question}", max_new_tokens=2, batch_size=1, grader=GraderSpec(name="exact", version="1"))
CHANGED = r"has changed while the campaign ran.*run the same command again"


@pytest.fixture
def models(pico: Family, tmp_path: Path) -> Models:
    seed = Path(shutil.copytree(pico.seed, tmp_path / "seed"))
    experts = {name: Path(shutil.copytree(folder, tmp_path / name)) for name, folder in pico.experts.items()}
    return check_models(seed, experts, "mlp")


@pytest.fixture
def workspace(models: Models, tmp_path: Path) -> Iterator[Any]:
    settings = WorkspaceSettings(
        store=str(tmp_path / "store"), models=models.folders, stamps=models.stamps, workers=1, scratch_gb=1.0
    )
    opened = Workspace(WorkspaceSettings.model_validate_json(settings.model_dump_json()))
    yield opened
    opened.close()


def _write_again(folder: Path) -> None:
    """As a download does that replaces the file: other weights of the same size."""
    path = folder / "model.safetensors"
    weights = {name: tensor * 2 for name, tensor in load_file(path).items()}
    save_file(weights, path.with_suffix(".new"), metadata={"format": "pt"})
    path.with_suffix(".new").rename(path)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "special_tokens_map.json"])
def test_a_file_that_changes_is_named_when_the_model_is_opened(models: Models, workspace: Any, name: str) -> None:
    """Rewritten, removed, or come to be."""
    sha256 = models.refs.seed.sha256
    folder = workspace.folder(sha256)
    if name == "model.safetensors":
        os.utime(folder / name)
    elif (folder / name).exists():
        (folder / name).unlink()
    else:
        (folder / name).write_text("{}")
    with pytest.raises(CheckpointError, match=f"seed/{name}: {CHANGED}"):
        workspace.folder(sha256)
    workspace.folder(models.refs.experts[0].sha256)


def test_an_expert_that_changes_during_a_merge_leaves_no_merged_weights(
    models: Models, workspace: Any, tmp_path: Path
) -> None:
    seed = Checkpoint(tmp_path / "seed")

    class Meanwhile:
        def run(self, _source: str, _bundle: str, *, sink: Sink | None = None) -> Run:
            assert sink is not None
            sink.begin()
            for name in merged_names(seed, "mlp"):
                sink.put(name, torch.zeros(seed.shapes[name]))
            _write_again(tmp_path / "alpha")
            return Run("accepted", "", {})

    workspace.merger = lambda *_: Meanwhile()
    with pytest.raises(CheckpointError, match=f"alpha/model.safetensors: {CHANGED}"):
        merged_weights(PROGRAM, models.refs, LIMITS, workspace)
    assert not scratch_file(PROGRAM, models.refs, workspace).exists()


def test_answers_of_a_model_that_changes_meanwhile_are_not_stored(
    models: Models, workspace: Any, tmp_path: Path
) -> None:
    class Engine:
        device = "cpu"

        def answer(self, folder: Path, *_: Any, **__: Any) -> list[tuple[str, int]]:
            if folder.name == "seed":
                _write_again(folder)
            return [("2", 1)]

        def close(self) -> None:
            pass

    block = QuestionBlock(split="search", items=(QuestionItem(question="1 + 1?", answer="2"),))
    asked = store_questions(workspace.store, block)
    workspace.engine = Engine()
    sound, changing = (
        EvaluateJob(models=models.refs, limits=LIMITS, questions=asked, decoding=ASKED, plain=(model,))
        for model in (models.refs.experts[0], models.refs.seed)
    )
    assert evaluate(sound, workspace).scorecards[0].score == 1.0
    with pytest.raises(CheckpointError, match=f"seed/model.safetensors: {CHANGED}"):
        evaluate(changing, workspace)
    assert len(list((tmp_path / "store").rglob("scorecards/*/*"))) == 1


def test_without_stamps_a_model_is_known_by_its_content(models: Models, tmp_path: Path, pico: Family) -> None:
    """So it is on another machine."""
    sha256 = models.refs.seed.sha256
    settings = WorkspaceSettings(store=str(tmp_path / "store"), models=models.folders, workers=1)
    there = Workspace(settings)
    assert Checkpoint(there.folder(sha256)).sha256() == sha256
    _write_again(tmp_path / "seed")
    with pytest.raises(CheckpointError, match=CHANGED):
        there.folder(sha256)
    elsewhere = Workspace(settings)
    with pytest.raises(CheckpointError, match=r"seed: is not the model .* of the campaign; copy it here"):
        elsewhere.folder(sha256)
    for one in (there, elsewhere):
        one.close()
