"""A factory that is an adapter on the seed, as weights to swap in: W + (α / r) · B·A, in the seed's dtype.

vLLM computes in one dtype with the sum, where transformers keeps the adapter apart. In bfloat16 the sum is rounded once, so
programs are drawn from a model that is near the trained one, not from itself; `engine.dtype: float32` does not round.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from selfdev_core.errors import EngineError
from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.tensors.written import Spec, TensorFile

_PREFIX, _FIRST, _SECOND = "base_model.model.", ".lora_A.weight", ".lora_B.weight"


def write_with_adapter(base: Path, adapter: Path, out: Path, dtype: str) -> None:
    """Write the tensors that a LoRA adapter changes, as they are with it; `dtype` as the engine has it (bfloat16, …).

    Memory stays at a few tensors. The file appears whole or not at all.
    Raises: EngineError when the adapter is no plain LoRA adapter for the checkpoint in `base`.
    """
    import torch
    from safetensors import safe_open

    settings = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    if settings.get("use_dora") or settings.get("use_rslora") or settings.get("rank_pattern"):
        raise EngineError(f"{adapter}: is no plain LoRA adapter; only those can be swapped into vLLM")
    scale = settings["lora_alpha"] / settings["r"]
    model, as_engine = Checkpoint(base), getattr(torch, dtype)
    specs_dtype = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}[dtype]
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as file:
        names = {_of_the_base(name, model, adapter): name for name in file.keys() if name.endswith(_FIRST)}  # noqa: SIM118
        if 2 * len(names) != len(list(file.keys())):
            raise EngineError(
                f"{adapter}: holds more than the two factors of each layer; it cannot be swapped into vLLM"
            )
        partial = out.with_name(f"{out.name}.partial-{os.getpid()}")
        with TensorFile(partial, {name: Spec(specs_dtype, model.shapes[name]) for name in names}) as written:
            for name, first in names.items():
                own = model.tensor(name).float()
                second = file.get_tensor(first.removesuffix(_FIRST) + _SECOND).float()
                update = second @ file.get_tensor(first).float()
                if update.shape != own.shape:
                    raise EngineError(f"{adapter}: {name} has another shape than in {base}")
                written.put(name, own.add(update, alpha=scale).to(as_engine))
                model.forget(name)
    partial.rename(out)


def _of_the_base(name: str, model: Checkpoint, adapter: Path) -> str:
    """The parameter that a layer's first factor is for."""
    found = name.removeprefix(_PREFIX).removesuffix(_FIRST) + ".weight"
    if found not in model.shapes:
        raise EngineError(f"{adapter}: changes {found}, which is no parameter of {model.folder}")
    return found
