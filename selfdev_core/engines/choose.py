"""The engine that a configuration names, and in which dtype its models compute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from selfdev_core.engines.config import EngineConfig
from selfdev_core.engines.protocol import Engine
from selfdev_core.resources import ResourcesConfig
from selfdev_core.workers.pool import WorkerPool

_GPU_FILES = (
    "nvidia*",
    "nvhost*",
    "kfd",
    "dxg",
)  # in /dev: without one of them there is no need to load torch and ask it


def dtype_of(config: EngineConfig, resources: ResourcesConfig) -> str:
    """In which dtype the models compute. Decided where the plan is made, and obeyed by the workers wherever they run."""
    if config.kind == "vllm":
        return config.dtype
    on_gpus = resources.gpus_per_worker > 0 if resources.runner == "ray" else _gpu_here()
    return "bfloat16" if on_gpus else "float32"


def key_of(config: EngineConfig, dtype: str) -> str:
    """What keys hold of the engine: `EngineConfig.key`, or for transformers the dtype unless it is float32."""
    return config.key or ("" if dtype == "float32" else f"{config.kind} {dtype}")


def _gpu_here() -> bool:
    if not any(next(Path("/dev").glob(name), None) for name in _GPU_FILES):
        return False
    import torch

    return bool(torch.cuda.is_available())


def engine_of(
    config: EngineConfig, pool: WorkerPool, scratch: Path, retried: Callable[[str], None], note: Callable[[str], None]
) -> Engine:
    """Starts nothing: that is done when the engine is first asked. Raises: EngineError when it names GPUs that are not there."""
    if config.kind == "transformers":
        from selfdev_core.engines.local import TransformersEngine

        return TransformersEngine(pool)
    from selfdev_core.engines.vllm.engine import VllmEngine

    return VllmEngine(config, scratch, retried, note)
