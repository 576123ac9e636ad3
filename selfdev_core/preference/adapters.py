"""LoRA adapters as checkpoints: adapter weights (float32) and settings beside the base model's configuration and tokenizer.

No path of this machine stands in one, and equal training gives equal files: an adapter's digest is its identity.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_WEIGHTS, _SETTINGS = "adapter_model.safetensors", "adapter_config.json"
_FIRST, _SECOND = ".lora_A.", ".lora_B."  # in names: an A has the rank as its rows, a B as its columns
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

    `before`: folder of the factory's adapter, or empty when it had none; then the adapter's second factor is scaled, which is
    exact. Otherwise B₁A₁·(1 − share) + B₂A₂·share has up to the sum of both ranks and is brought back to the rank of `after`:
    the largest singular values are kept, which is the best approximation of that rank (Eckart and Young 1936), exact where
    the sum has no higher rank.
    """
    import torch
    from safetensors.torch import load_file, save_file

    shutil.rmtree(out, ignore_errors=True)  # what a killed worker left
    shutil.copytree(after, out)
    new = load_file(Path(after) / _WEIGHTS)
    settings = json.loads((Path(after) / _SETTINGS).read_text(encoding="utf-8"))
    if not before:
        made = {name: tensor * share if _SECOND in name else tensor for name, tensor in new.items()}
    else:
        old = load_file(Path(before) / _WEIGHTS)
        earlier = json.loads((Path(before) / _SETTINGS).read_text(encoding="utf-8"))
        scale = settings["lora_alpha"] / settings["r"]
        ratio = (earlier["lora_alpha"] / earlier["r"]) / scale
        made = {}
        for name, tensor in new.items():
            if _SECOND in name:
                first = name.replace(_SECOND, _FIRST)
                left = torch.cat([old[name] * ((1.0 - share) * ratio), tensor * share], dim=1)
                right = torch.cat([old[first], new[first]], dim=0)
                made[name], made[first] = _of_rank(settings["r"], left, right)
    save_file(made, Path(out) / _WEIGHTS, metadata={"format": "pt"})
    _write(Path(out), settings)


def _of_rank(rank: int, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors of the product that is nearest to `left · right` among those of a rank, in the dtypes of the two.

    Only the factors are taken apart, never the product: its singular values are those of the small R₁ · R₂ᵀ.
    """
    import torch

    basis, triangle = torch.linalg.qr(left.double())
    other_basis, other_triangle = torch.linalg.qr(right.double().T)
    u, values, vh = torch.linalg.svd(triangle @ other_triangle.T, full_matrices=False)
    root = values[:rank].sqrt()
    second = torch.zeros(left.shape[0], rank, dtype=left.dtype)
    first = torch.zeros(rank, right.shape[1], dtype=right.dtype)
    second[:, : len(root)] = basis @ u[:, :rank] * root
    first[: len(root)] = root[:, None] * (vh[:rank] @ other_basis.T)
    return second, first


def _in_order(targets: Any) -> Any:
    return sorted(targets) if isinstance(targets, list) else targets


def _write(folder: Path, settings: dict[str, Any]) -> None:
    (folder / _SETTINGS).write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n", encoding="utf-8")
