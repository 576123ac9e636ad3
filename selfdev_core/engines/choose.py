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
        from selfdev_core.engines.vllm.slots import gpus_of

        on_cpu = config.dtype == "auto" and not config.urls and not gpus_of(config)
        return "float32" if on_cpu else "bfloat16" if config.dtype == "auto" else config.dtype
    on_gpus = resources.gpus_per_worker > 0 if resources.runner == "ray" else _gpu_here()
    return "bfloat16" if on_gpus else "float32"


def key_of(config: EngineConfig, dtype: str) -> str:
    """What keys hold of the engine: whatever may change an answer. Of transformers in float32 nothing."""
    return "" if (config.kind, dtype) == ("transformers", "float32") else f"{config.kind} {dtype}"


def _gpu_here() -> bool:
    if not any(next(Path("/dev").glob(name), None) for name in _GPU_FILES):
        return False
    import torch

    return bool(torch.cuda.is_available())


def engine_of(
    config: EngineConfig,
    dtype: str,
    workers: int,
    pool: WorkerPool,
    scratch: Path,
    retried: Callable[[str], None],
    note: Callable[[str], None],
) -> Engine:
    """An engine that computes in `dtype` (`dtype_of`; the pool's workers do already), on the CPU in `workers` processes. Starts
    nothing: that is done when it is first asked. Raises: EngineError when it names GPUs that are not there."""
    if config.kind == "transformers":
        from selfdev_core.engines.local import TransformersEngine

        return TransformersEngine(pool)
    from selfdev_core.engines.vllm.engine import VllmEngine

    return VllmEngine(config.model_copy(update={"dtype": dtype}), scratch, retried, note, workers)
