"""Sizes of models from their config.json: equal to what the real library builds, and to published parameter counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from selfdev_core.errors import ConfigError
from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.merging.scope import in_scope
from selfdev_core.planning.memory import serving, training
from selfdev_core.planning.shapes import read_shape, shape_of
from tests.conftest import Family

MISTRAL: dict[str, Any] = {
    "model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000, "tie_word_embeddings": False,
}  # fmt: skip
QWEN: dict[str, Any] = {
    "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
    "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
}  # fmt: skip


def test_a_real_checkpoint_has_as_many_parameters_as_its_shape_says(pico: Family) -> None:
    shape, model = read_shape(pico.seed), Checkpoint(pico.seed)
    assert shape.parameters == sum(_count(one) for one in model.shapes.values())
    merged = sum(_count(one) for name, one in model.shapes.items() if in_scope(name, "mlp"))
    assert shape.merged("mlp") == merged and shape.merged("all") == shape.parameters


@pytest.mark.parametrize(("config", "parameters"), [(MISTRAL, 7_241_732_096), (QWEN, 494_032_768)])
def test_published_parameter_counts_come_out(config: dict[str, Any], parameters: int) -> None:
    assert shape_of(config, "config.json").parameters == parameters


@pytest.mark.slow
@pytest.mark.parametrize("config", [MISTRAL, QWEN])
def test_the_library_builds_models_of_that_size_cache_and_adapter(config: dict[str, Any]) -> None:
    """On the meta device: the real classes, no memory."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = shape_of(config, "config.json")
    made = AutoConfig.for_model(**config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(made)
        assert sum(p.numel() for p in model.parameters()) == shape.parameters
        keys = model.model.layers[0].self_attn.k_proj.out_features
        assert shape.cache_bytes(1) == 2 * made.num_hidden_layers * keys * 2
        lora = get_peft_model(model, LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))
        assert shape.lora(16) == sum(p.numel() for p in lora.parameters() if p.requires_grad)


def test_a_7b_model_in_half_precision_needs_what_everybody_knows() -> None:
    shape = shape_of(MISTRAL, "config.json")
    assert serving(shape, 1, 1).weights == pytest.approx(14.48e9, rel=0.001)
    assert shape.cache_bytes(1) == 131_072  # 128 KiB per token
    assert serving(shape, 64, 2048, 2).total < serving(shape, 64, 2048).total
    lora, full = training(shape, 256, 1, 1024), training(shape, None, 1, 1024)
    assert lora.total < full.total and full.trained == pytest.approx(115.9e9, rel=0.001)


@pytest.mark.parametrize(
    ("change", "told"),
    [({"hidden_size": None}, "hidden_size is None"), ({"vocab_size": "many"}, "vocab_size is 'many'"),
     ({"num_hidden_layers": 0}, "num_hidden_layers is 0")],
)  # fmt: skip
def test_a_config_that_is_no_llama_is_told_by_field(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(MISTRAL | change))
    with pytest.raises(ConfigError, match=told):
        read_shape(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_file_that_is_no_config_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json"):
        read_shape(tmp_path / "config.json")


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total
