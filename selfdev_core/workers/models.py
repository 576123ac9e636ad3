"""Models loaded in a worker process, kept between calls, with the weights of a merge swapped in place."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from selfdev_core.errors import EngineError

if TYPE_CHECKING:
    import torch

KEPT = 3


class Loaded(NamedTuple):
    """A model in evaluation mode, its tokenizer (left padding) and the tensors that a merge has replaced."""

    model: Any
    tokenizer: Any
    device: torch.device
    original: dict[str, torch.Tensor]


_loaded: OrderedDict[Path, Loaded] = OrderedDict()


def load(folder: Path) -> Loaded:
    """The checkpoint in `folder`: float32 on CPU, bfloat16 on a GPU. The last few are kept in memory."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if folder in _loaded:
        _loaded.move_to_end(folder)
        return _loaded[folder]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()
    except Exception as error:
        raise EngineError(f"{folder}: transformers cannot load this checkpoint: {error}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    while len(_loaded) >= KEPT:
        _loaded.popitem(last=False)
    _loaded[folder] = Loaded(model, tokenizer, device, {})
    return _loaded[folder]


def swap(loaded: Loaded, weights: Path | None) -> None:
    """Put the tensors of a merged-weights file in place of the model's own; None restores the model as loaded."""
    import torch
    from safetensors.torch import load_file

    merged = load_file(weights) if weights is not None else {}
    parameters = loaded.model.state_dict(keep_vars=True)  # tied weights stand here under each of their names
    unknown = sorted(set(merged) - set(parameters))
    if unknown:
        raise EngineError(f"{weights}: {unknown[0]!r} is no parameter of the seed model")
    with torch.no_grad():
        for name, tensor in {**loaded.original, **merged}.items():
            if name in merged and name not in loaded.original:
                loaded.original[name] = parameters[name].detach().clone()
            parameters[name].copy_(tensor)
