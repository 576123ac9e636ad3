"""Shared fixtures: real Hugging Face checkpoints, small enough to build in milliseconds (hidden 32, two layers)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

# Two OpenMP threads on a busy machine can be twenty times slower than one; set before torch is first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


class Family(NamedTuple):
    """A seed and its fine-tuned siblings, as folders."""

    seed: Path
    experts: dict[str, Path]


@pytest.fixture(scope="session")
def pico_tokenizer() -> Any:
    """A byte-level tokenizer: one token per byte, and an end token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<eos>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")


@pytest.fixture(scope="session")
def save_pico(pico_tokenizer: Any) -> Callable[..., Path]:
    """Writes a pico Llama into a folder; `near` makes it a fine-tuned sibling of an earlier folder."""

    def save(
        folder: Path,
        seed: int = 0,
        near: Path | None = None,
        dtype: str = "bfloat16",
        shard_size: str = "1GB",
        **config: Any,
    ) -> Path:
        import torch
        from safetensors.torch import load_file
        from transformers import LlamaConfig, LlamaForCausalLM

        settings = {
            "vocab_size": len(pico_tokenizer),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 256,
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": pico_tokenizer.eos_token_id,
            "pad_token_id": pico_tokenizer.pad_token_id,
        }
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = LlamaForCausalLM(LlamaConfig(**(settings | config)))
        with torch.no_grad():
            if near is None:
                for weight in model.parameters():
                    if weight.dim() == 2:
                        weight.normal_(0.0, 0.3, generator=generator)
            else:
                weights: dict[str, torch.Tensor] = {}
                for path in near.glob("*.safetensors"):
                    weights |= load_file(path)
                for name, weight in model.named_parameters():
                    noise = 0.05 * torch.randn(weight.shape, generator=generator)
                    weight.copy_(weights[name].float() + noise)
        model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=shard_size)
        pico_tokenizer.save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def pico(save_pico: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Family:
    """A bfloat16 seed with tied embeddings and two experts. Read-only: copy before you damage it."""
    root = tmp_path_factory.mktemp("pico")
    seed = save_pico(root / "seed", 1)
    experts = {name: save_pico(root / name, i, near=seed) for i, name in enumerate(("alpha", "beta"), 2)}
    return Family(seed, experts)


@pytest.fixture(scope="session")
def write_questions() -> Callable[..., Path]:
    """Writes a JSONL file of `count` additions that stand in no other split."""

    def write(path: Path, count: int = 4, start: int = 0) -> Path:
        rows = [{"question": f"What is {start + i} + 1?", "answer": str(start + i + 1)} for i in range(count)]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write
