"""A set of models in several number formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def mixed(save_pico: Callable[..., Path], tmp_path: Path) -> dict[str, Path]:
    """A bf16 seed in one file, experts in fp16, fp32 (in shards) and fp64."""
    seed = save_pico(tmp_path / "models" / "seed", 1)
    found = {"seed": seed, "half": save_pico(tmp_path / "models" / "half", 2, near=seed, dtype="float16")}
    found["single"] = save_pico(tmp_path / "models" / "single", 3, near=seed, dtype="float32", shard_size="20KB")
    found["double"] = save_pico(tmp_path / "models" / "double", 4, near=seed, dtype="float64")
    return found
