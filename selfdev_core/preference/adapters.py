"""LoRA adapters as checkpoints: adapter weights (float32) and settings beside the base model's configuration and tokenizer.

No path of this machine stands in one, and equal training gives equal files: an adapter's digest is its identity.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

_WEIGHTS, _SETTINGS = "adapter_model.safetensors", "adapter_config.json"
_OF_THE_BASE = ("config.json", "generation_config.json")


def save_adapter(model: Any, base: Path, out: Path) -> None:
    """Save the trained adapter of a PEFT model; `base` is the folder of the model under it."""
    model.save_pretrained(out, selected_adapters=["default"])
    (out / "README.md").unlink(missing_ok=True)
    settings = json.loads((out / _SETTINGS).read_text(encoding="utf-8"))
    settings |= {"base_model_name_or_path": None, "target_modules": _in_order(settings["target_modules"])}
    _write(out, settings)
    for name in _OF_THE_BASE:
        if (base / name).is_file():
            shutil.copy(base / name, out / name)


def shorten_adapter(before: str, after: str, share: float, out: str) -> None:
    """Save the adapter of `before + share · (after − before)`: the update, shortened. Runs in a worker.

    `before`: folder of the factory's adapter, or empty when it had none; then the adapter's second factor is scaled. Otherwise
    both adapters stand side by side in one, with the sum of their ranks: B₁A₁·(1 − share) + B₂A₂·share. No rounding but the
    scaling's, so it is exact.
    """
    import torch
    from safetensors.torch import load_file, save_file

    shutil.rmtree(out, ignore_errors=True)  # what a killed worker left
    shutil.copytree(after, out)
    new = load_file(Path(after) / _WEIGHTS)
    settings = json.loads((Path(after) / _SETTINGS).read_text(encoding="utf-8"))
    if not before:
        made = {name: tensor * share if _is_second(name) else tensor for name, tensor in new.items()}
    else:
        old = load_file(Path(before) / _WEIGHTS)
        earlier = json.loads((Path(before) / _SETTINGS).read_text(encoding="utf-8"))
        scale = settings["lora_alpha"] / settings["r"]
        ratio = (earlier["lora_alpha"] / earlier["r"]) / scale
        made = {}
        for name, tensor in new.items():
            if _is_second(name):
                made[name] = torch.cat([old[name] * ((1.0 - share) * ratio), tensor * share], dim=1)
            else:
                made[name] = torch.cat([old[name], tensor], dim=0)
        settings["r"] += earlier["r"]
        settings["lora_alpha"] = scale * settings["r"]  # the scale of both: alpha / rank
    save_file(made, Path(out) / _WEIGHTS, metadata={"format": "pt"})
    _write(Path(out), settings)


def _is_second(name: str) -> bool:
    """Whether a tensor is a B, whose columns (and an A's rows) are the rank."""
    return ".lora_B." in name


def _in_order(targets: Any) -> Any:
    return sorted(targets) if isinstance(targets, list) else targets


def _write(folder: Path, settings: dict[str, Any]) -> None:
    (folder / _SETTINGS).write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n", encoding="utf-8")
