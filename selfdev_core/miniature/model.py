"""The miniature's shape: a Llama small enough to train in minutes on one core, saved as an ordinary checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

_HIDDEN, _LAYERS, _HEADS, _FEED_FORWARD, _POSITIONS = 128, 4, 4, 344, 512
_EMBEDDING_STD, _MATRIX_STD = 0.04, 0.06


def new_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A freshly initialised model (float32), the same for the same seed."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=_HIDDEN,
        intermediate_size=_FEED_FORWARD,
        num_hidden_layers=_LAYERS,
        num_attention_heads=_HEADS,
        num_key_value_heads=_HEADS,
        max_position_embeddings=_POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                std = _EMBEDDING_STD if "embed" in name else _MATRIX_STD
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    std /= (2 * _LAYERS) ** 0.5
                weight.normal_(0.0, std, generator=generator)
    return model


def rounded(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """The same model in float32 with every weight rounded to bfloat16, as it will be saved."""
    import copy

    import torch

    copied = copy.deepcopy(model)
    with torch.no_grad():
        for weight in copied.parameters():
            weight.copy_(weight.to(torch.bfloat16))
    return copied.eval()


def save_model(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a member as a Hugging Face folder: bf16 safetensors, configuration and tokenizer."""
    import copy

    import torch

    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
