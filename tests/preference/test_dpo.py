"""DPO with TRL on a real checkpoint: full fine-tune and LoRA, from a folder to a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfdev_core.algorithm.prompt import load_prompt
from selfdev_core.config import DpoConfig
from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.miniature.families import family_folder
from selfdev_core.preference.dpo import Training, train_factory

GOOD, BAD = "\n    return 0.5 * sum(model_dict.values())", "\n    return 9.0 * sum(model_dict.values("
SEED = family_folder("arithmetic") / "seed"


def train(out: Path, method: str, rate: float) -> Training:
    config = DpoConfig(method=method, learning_rate=rate, steps=6, batch_size=4, lora_rank=4)
    pairs = [(GOOD.replace("0.5", f"0.{i}"), BAD.replace("9.0", f"9.{i}")) for i in range(1, 9)]
    return train_factory(str(SEED), str(out), load_prompt("miniature"), pairs, config.model_dump(mode="json"), 0)


@pytest.mark.parametrize(("method", "rate"), [("full", 1e-4), ("lora", 2e-3)])
def test_an_update_prefers_the_chosen_and_saves_a_whole_checkpoint(tmp_path: Path, method: str, rate: float) -> None:
    training = train(tmp_path / "new", method, rate)
    assert len(training.losses) == len(training.reward_margins) == 6
    assert training.reward_margins[-1] > training.reward_margins[0]
    before, after = Checkpoint(SEED), Checkpoint(tmp_path / "new")
    assert after.shapes == before.shapes
    changed = [name for name in after.shapes if not after.tensor(name).equal(before.tensor(name).float())]
    assert changed


def test_the_same_update_twice_gives_the_same_weights(tmp_path: Path) -> None:
    train(tmp_path / "a", "full", 1e-4)
    train(tmp_path / "b", "full", 1e-4)
    assert Checkpoint(tmp_path / "a").sha256() == Checkpoint(tmp_path / "b").sha256()
