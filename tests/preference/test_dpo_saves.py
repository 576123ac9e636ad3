"""A training that is killed goes on from its last save, and ends as one that nobody killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.preference.saves import last_save, saves_of
from tests.preference.conftest import LORA, SHORT, train


def _train_with_saves(out: Path, settings: dict[str, Any], before: Path | str, saves: Path) -> None:
    train(out, settings, before, saves=str(saves), save_steps=5)


def _kill_in_the_middle(out: Path, settings: dict[str, Any], before: Path | str, saves: Path) -> None:
    """Train in a process of its own and kill that after ten steps or more; what it has started ends with it."""
    process = multiprocessing.get_context("spawn").Process(
        target=_train_with_saves, args=(out, settings, before, saves)
    )
    process.start()
    deadline = time.monotonic() + 300
    while not list(saves.glob("checkpoint-1?/trainer_state.json")):
        assert process.is_alive() and time.monotonic() < deadline
        time.sleep(0.02)
    assert process.pid is not None
    ranks = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not psutil.wait_procs(ranks, 30)[1]


@pytest.mark.parametrize(
    "method", ["lora", pytest.param("adapter", marks=pytest.mark.slow), pytest.param("full", marks=pytest.mark.slow)]
)
def test_a_training_that_is_killed_after_its_last_step_does_none_again(
    method: str, adapter: Path, tmp_path: Path
) -> None:
    """The guard comes after the last save. Five steps end in the middle of an epoch, which has two."""
    settings = (SHORT | {"learning_rate": 1e-4} if method == "full" else LORA) | {"steps": 5}
    before, saves = adapter if method == "adapter" else "", tmp_path / "saves"
    whole = train(tmp_path / "whole", settings, before, str(saves), save_steps=2)
    assert len(whole.losses) == 5 and Path(last_save(saves) or "").name == "checkpoint-5"
    steps: list[int] = []
    seen = _steps_done(steps)
    again = train(tmp_path / "again", settings, before, str(saves), save_steps=2)
    seen.undo()
    assert steps == [] and again == whole
    assert Checkpoint(tmp_path / "again").sha256() == Checkpoint(tmp_path / "whole").sha256()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora", "adapter"])
def test_a_killed_training_goes_on_from_its_last_save_and_ends_with_the_same_weights(
    method: str, adapter: Path, tmp_path: Path
) -> None:
    settings = (SHORT | {"learning_rate": 1e-4} if method == "full" else LORA) | {"steps": 30}
    before = adapter if method == "adapter" else ""
    whole = train(tmp_path / "whole", settings, before)
    saves = tmp_path / "saves"
    _kill_in_the_middle(tmp_path / "killed", settings, before, saves)
    assert not (tmp_path / "killed").exists()
    reached = int(Path(last_save(saves) or "").name.partition("-")[2])
    assert 10 <= reached < 30
    steps: list[int] = []
    seen = _steps_done(steps)
    again = train(tmp_path / "killed", settings, before, saves=str(saves), save_steps=5)
    seen.undo()
    assert steps == list(range(reached + 1, 31))
    assert again.losses == whole.losses and len(again.losses) == 30
    assert Checkpoint(tmp_path / "killed").sha256() == Checkpoint(tmp_path / "whole").sha256()


@pytest.mark.slow
def test_a_killed_training_in_two_processes_goes_on_from_its_last_save(tmp_path: Path) -> None:
    settings, saves = LORA | {"steps": 30, "processes": 2}, tmp_path / "saves"
    _kill_in_the_middle(tmp_path / "killed", settings, "", saves)
    state = Path(last_save(saves) or "") / "trainer_state.json"
    told = json.loads(state.read_text())
    assert 10 <= told["global_step"] < 30
    first = next(entry for entry in told["log_history"] if "loss" in entry)
    first["loss"] = 99.0  # comes out if the save is gone on from
    state.write_text(json.dumps(told))
    again = train(tmp_path / "killed", settings, saves=str(saves), save_steps=5)
    whole = train(tmp_path / "whole", settings)
    assert again.losses[0] == 99.0 and again.losses[1:] == pytest.approx(whole.losses[1:], abs=0.02)
    one, two = Checkpoint(tmp_path / "killed"), Checkpoint(tmp_path / "whole")
    for name in one.shapes:
        torch.testing.assert_close(one.tensor(name), two.tensor(name), rtol=0.05, atol=3e-3)


def _steps_done(steps: list[int]) -> pytest.MonkeyPatch:
    """Note the optimiser steps that are really done."""
    from trl import DPOTrainer

    patch, log = pytest.MonkeyPatch(), DPOTrainer.log

    def noted(self: Any, logs: dict[str, float], *rest: Any) -> None:
        if "loss" in logs:
            steps.append(self.state.global_step)
        log(self, logs, *rest)

    patch.setattr(DPOTrainer, "log", noted)
    return patch


def test_a_half_written_save_is_not_gone_on_from(tmp_path: Path) -> None:
    for step, state in ((5, '{"global_step": 5}'), (10, '{"global_step": 10}'), (15, '{"global_st'), (20, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert last_save(tmp_path) == str(tmp_path / "checkpoint-10")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-5"]
    assert last_save(tmp_path / "none") is None


def test_saves_stay_when_training_fails_and_go_when_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFDEV_HOME", str(tmp_path))
    with pytest.raises(RuntimeError), saves_of("key") as saves:
        Path(saves, "kept").touch()
        with saves_of("key") as other:
            assert other == ""
        raise RuntimeError
    with saves_of("key") as saves:
        assert Path(saves, "kept").is_file()
    assert not Path(saves).exists()
