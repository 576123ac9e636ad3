"""Swap and proof on the kinds of models that campaigns are about: grouped heads, biases, untied heads, norms of queries."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from selfdev_core.engines.config import EngineConfig
from tests.vllm.conftest import SEED, Told, ask

_COMMON: dict[str, Any] = {
    "vocab_size": 640,
    "hidden_size": 128,
    "intermediate_size": 176,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}


def _save(folder: Path, kind: str, seed: int, **settings: Any) -> Path:
    """A checkpoint with random weights, in two shards, with the miniature's tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(kind, **(_COMMON | settings))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight.normal_(1.0 if "norm" in name else 0.0, 0.1)
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="400KB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SEED / name, folder / name)
    assert (folder / "model.safetensors.index.json").is_file()
    return folder


@pytest.mark.parametrize(
    "kind,settings",
    [
        ("mistral", {"tie_word_embeddings": False, "head_dim": 32}),
        ("qwen2", {"tie_word_embeddings": True}),
        ("qwen2", {"tie_word_embeddings": False}),
        ("qwen3", {"tie_word_embeddings": True, "head_dim": 32}),
    ],
    ids=["mistral", "qwen2-tied", "qwen2-untied", "qwen3"],
)
def test_other_weights_are_held_and_proved(
    kind: str,
    settings: dict[str, Any],
    open_engine: Callable[[EngineConfig], Told],
    config: EngineConfig,
    prompts: list[str],
    tmp_path: Path,
) -> None:
    one, two = (_save(tmp_path / str(seed), kind, seed, **settings) for seed in (1, 2))
    told = open_engine(config)
    first = ask(told.engine, one, None, prompts[:16])
    second = ask(told.engine, two, None, prompts[:16])
    assert first != second
    tensors: dict[str, Any] = {}
    for path in two.glob("*.safetensors"):
        tensors |= load_file(path)
    save_file(tensors, tmp_path / "all.safetensors")
    save_file({name: t for name, t in tensors.items() if ".mlp." in name}, tmp_path / "mlp.safetensors")
    assert ask(told.engine, one, tmp_path / "mlp.safetensors", prompts[:16]) not in (first, second)
    assert ask(told.engine, one, tmp_path / "all.safetensors", prompts[:16]) == second
    assert ask(told.engine, one, None, prompts[:16]) == first
    assert told.notes == [] and told.retries == []
    told.engine.close()
