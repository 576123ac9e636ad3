"""A real vLLM on the CPU, with the shipped miniature models and merges of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from selfdev_core.engines.config import EngineConfig
from selfdev_core.engines.vllm.engine import VllmEngine
from selfdev_core.miniature.families import family_folder
from selfdev_core.miniature.problems import questions

FAMILY = family_folder("arithmetic")
SEED = FAMILY / "seed"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.vllm)
            item.add_marker(pytest.mark.slow)


class Merge(NamedTuple):
    """A merged model: the tensors that replace the seed's, and the whole of it as a folder."""

    weights: Path
    folder: Path


class Told(NamedTuple):
    """An engine, and what it said."""

    engine: VllmEngine
    retries: list[str]
    notes: list[str]


@pytest.fixture(scope="session")
def python() -> Path:
    """The vLLM environment's Python."""
    found = os.environ.get("VLLM_PYTHON", "")
    assert found, "`make test-vllm` makes the vLLM environment and names its Python in VLLM_PYTHON"
    return Path(found)


@pytest.fixture(scope="session")
def config(python: Path) -> EngineConfig:
    return EngineConfig(kind="vllm", python=python, gpus=0, dtype="bfloat16", kv_cache_gb=0.25)


@pytest.fixture(scope="session")
def prompts() -> list[str]:
    """200 questions that the miniature's models were not trained on."""
    return [f"Q: {one.question}\nA:" for one in questions("arithmetic", "validation", 200)]


@pytest.fixture(scope="session")
def open_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[EngineConfig], Told]]:
    """Opens an engine of a configuration; all are closed at the end."""
    opened: list[VllmEngine] = []
    before = os.environ.get("SELFDEV_HOME")
    os.environ["SELFDEV_HOME"] = str(tmp_path_factory.mktemp("home"))

    def open_one(config: EngineConfig) -> Told:
        retries: list[str] = []
        notes: list[str] = []
        opened.append(VllmEngine(config, tmp_path_factory.mktemp("s"), retries.append, notes.append))
        return Told(opened[-1], retries, notes)

    yield open_one
    for engine in opened:
        engine.close()
    os.environ.pop("SELFDEV_HOME")
    if before is not None:
        os.environ["SELFDEV_HOME"] = before


@pytest.fixture(scope="session")
def told(open_engine: Callable[[EngineConfig], Told], config: EngineConfig) -> Told:
    """One engine that stays up over the tests."""
    return open_engine(config)


@pytest.fixture(scope="session")
def engine(told: Told) -> VllmEngine:
    return told.engine


@pytest.fixture(scope="session")
def merge(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Merge]:
    """Merges the experts into the seed: seed + a·(alpha − seed) + b·(beta − seed), in scope."""
    from safetensors.torch import save_file

    from selfdev_core.merging.checkpoints import Checkpoint
    from selfdev_core.merging.saved import save_merged
    from selfdev_core.merging.scope import in_scope

    root = tmp_path_factory.mktemp("merges")
    seed, alpha, beta = (Checkpoint(FAMILY / name) for name in ("seed", "alpha", "beta"))

    def make(a: float, b: float, scope: Any = "mlp") -> Merge:
        made = Merge(root / f"{a}-{b}-{scope}.safetensors", root / f"{a}-{b}-{scope}")
        if not made.folder.exists():
            tensors = {}
            for name in seed.shapes:
                if in_scope(name, scope):
                    own = seed.tensor(name).float()
                    vectors = a * (alpha.tensor(name).float() - own) + b * (beta.tensor(name).float() - own)
                    tensors[name] = (own + vectors).to(seed.tensor(name).dtype)
            save_file(tensors, made.weights)
            save_merged(seed, tensors, made.folder)
        return made

    return make


def ask(engine: VllmEngine, folder: Path, weights: Path | None, prompts: list[str]) -> list[str]:
    """Answers of at most 36 tokens."""
    return [one.text for one in engine.answer(folder, weights, prompts, max_new_tokens=36, batch_size=128)]
