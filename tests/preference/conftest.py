"""A factory trained on eight pairs, and an adapter that several tests look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from selfdev_core.algorithm.prompt import load_prompt
from selfdev_core.miniature.families import family_folder
from selfdev_core.preference.dpo import Training, Update, train_factory
from selfdev_core.training import DpoConfig

GOOD, BAD = "\n    return 0.5 * sum(model_dict.values())", "\n    return 9.0 * sum(model_dict.values("
SEED = family_folder("arithmetic") / "seed"
SHORT = {"steps": 6, "batch_size": 4}
LORA = SHORT | {"method": "lora", "learning_rate": 2e-3, "lora_rank": 4}


def train(
    out: Path, settings: dict[str, Any], adapter: Path | str = "", saves: str = "", save_steps: int = 0
) -> Training:
    config = DpoConfig.model_validate(settings).model_dump(mode="json")
    pairs = [(GOOD.replace("0.5", f"0.{i}"), BAD.replace("9.0", f"9.{i}")) for i in range(1, 9)]
    update = Update(str(SEED), str(adapter), str(out), config, seed=0, saves=saves, save_steps=save_steps)
    return train_factory(update, load_prompt("miniature"), pairs)


def logits(adapter: Path | None) -> Any:
    """What the seed, with an adapter on it, makes of the prompt."""
    import torch

    from selfdev_core.workers.models import load

    loaded = load(SEED, adapter)
    with torch.inference_mode():
        return loaded.model(**prompt()).logits


def prompt() -> Any:
    from selfdev_core.workers.models import load

    tokenizer = load(SEED).tokenizer
    return tokenizer([load_prompt("miniature")], return_tensors="pt", return_token_type_ids=False)


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("lora") / "new"
    training = train(out, LORA)
    assert len(training.losses) == 6 and training.reward_margins[-1] > training.reward_margins[0]
    return out
