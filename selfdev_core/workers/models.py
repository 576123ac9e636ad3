"""Models loaded in a worker process, kept between calls, with the weights of a merge swapped in place."""

from __future__ import annotations

import gc
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from selfdev_core.errors import EngineError

if TYPE_CHECKING:
    import torch

KEPT = 3


class Loaded(NamedTuple):
    """A model in evaluation mode, its tokenizer (left padding) and the tensors that a merge has replaced.

    `ends`: the tokens that end a text, the tokenizer's own and those that the checkpoint's generation settings name.
    """

    model: Any
    tokenizer: Any
    device: torch.device
    original: dict[str, torch.Tensor]
    ends: frozenset[int]


_loaded: OrderedDict[tuple[Path, Path | None], Loaded] = OrderedDict()
dtype = "float32"  # in which models of this process compute: in the keys of what they say, so never chosen here


def load(folder: Path, adapter: Path | None = None) -> Loaded:
    """The checkpoint in `folder`, with a LoRA adapter on it if one is named, on a GPU if there is one.

    The adapter is not merged into the weights: in bfloat16 they would round most of it away. Of the checkpoint's generation
    settings only the end tokens count, as in vLLM: penalties and the like are as the campaign says, that is, none. The last
    few models are kept in memory.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    key = (folder, adapter)
    if key in _loaded:
        _loaded.move_to_end(key)
        return _loaded[key]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).to(device)
        ends = _ends(tokenizer.eos_token_id, model.generation_config.eos_token_id)
        model.generation_config = GenerationConfig()  # transformers fills what a call leaves open from here
        if adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, adapter)
        model.eval()
    except Exception as error:
        raise EngineError(f"{adapter or folder}: transformers cannot load this checkpoint: {error}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    while len(_loaded) >= KEPT:
        _loaded.popitem(last=False)
    _loaded[key] = Loaded(model, tokenizer, device, {}, ends)
    return _loaded[key]


def _ends(*given: int | list[int] | None) -> frozenset[int]:
    lists = [one if isinstance(one, list) else [one] for one in given if one is not None]
    return frozenset(token for one in lists for token in one)


def release() -> None:
    """Give up every model that lies on a GPU, and the memory that torch keeps there for later: others need the room. On the CPU
    models stay."""
    import torch

    if torch.cuda.is_available():
        _loaded.clear()
        gc.collect()  # a trainer and its model refer to each other
        torch.cuda.empty_cache()


def swap(loaded: Loaded, weights: Path | None) -> None:
    """Put the tensors of a merged-weights file in place of the model's own; None restores the model as loaded."""
    import torch
    from safetensors.torch import load_file

    merged = load_file(weights) if weights is not None else {}
    parameters = loaded.model.state_dict(keep_vars=True)  # tied weights stand here under each of their names
    unknown = sorted(set(merged) - set(parameters))
    if unknown:
        raise EngineError(f"{weights}: {unknown[0]!r} is no parameter of the seed model")
    new = [name for name in merged if name not in loaded.original]
    with torch.no_grad():
        for name, tensor in loaded.original.items():
            if new or name not in merged:  # under a new name may lie what an older one has replaced
                parameters[name].copy_(tensor)
        loaded.original.update({name: parameters[name].detach().clone() for name in new})
        for name, tensor in merged.items():
            parameters[name].copy_(tensor)
