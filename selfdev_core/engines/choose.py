"""The engine that a configuration names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from selfdev_core.engines.config import EngineConfig
from selfdev_core.engines.protocol import Engine
from selfdev_core.workers.pool import WorkerPool


def engine_of(
    config: EngineConfig, pool: WorkerPool, scratch: Path, retried: Callable[[str], None], note: Callable[[str], None]
) -> Engine:
    """Starts nothing: that is done when the engine is first asked. Raises: EngineError when it names GPUs that are not there."""
    if config.kind == "transformers":
        from selfdev_core.engines.local import TransformersEngine

        return TransformersEngine(pool)
    from selfdev_core.engines.vllm.engine import VllmEngine

    return VllmEngine(config, scratch, retried, note)
