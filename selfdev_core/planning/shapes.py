"""The size of a Llama-like model from its config.json: parameters, what is merged, LoRA, the key-value cache.

Llama, Mistral and Qwen families: grouped-query attention, a gated MLP of three matrices per block, RMS norms.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from selfdev_core.errors import ConfigError
from selfdev_core.records import Scope

_FIELDS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
_WITH_QKV_BIAS = ("qwen2",)


class Shape(NamedTuple):
    """Sizes of a decoder, as in its config.json. `head`: width of one attention head; `kv_heads`: heads of keys and values."""

    hidden: int
    intermediate: int
    blocks: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    tied: bool
    qkv_bias: bool

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of the linear layers of one block: q, k, v, o, gate, up, down."""
        h, i, q, kv = self.hidden, self.intermediate, self.heads * self.head, self.kv_heads * self.head
        return ((h, q), (h, kv), (h, kv), (q, h), (h, i), (h, i), (i, h))

    @property
    def linear(self) -> int:
        """Weights of the linear layers of all blocks."""
        return self.blocks * sum(a * b for a, b in self.matrices)

    @property
    def parameters(self) -> int:
        """All weights: embeddings (and the output matrix, unless tied), blocks with two norms each, the last norm."""
        biases = (self.heads + 2 * self.kv_heads) * self.head if self.qkv_bias else 0
        block = sum(a * b for a, b in self.matrices) + biases + 2 * self.hidden
        return (1 if self.tied else 2) * self.vocabulary * self.hidden + self.blocks * block + self.hidden

    def merged(self, scope: Scope) -> int:
        """Weights that a program merges: the three MLP matrices of each block, or all."""
        return self.parameters if scope == "all" else 3 * self.blocks * self.hidden * self.intermediate

    def lora(self, rank: int) -> int:
        """Weights of a LoRA adapter on every linear layer of the blocks: rank × (inputs + outputs) each (Hu et al. 2021)."""
        return self.blocks * sum(rank * (a + b) for a, b in self.matrices)

    def cache_bytes(self, tokens: int, width: int = 2) -> int:
        """Key-value cache of `tokens` tokens at `width` bytes per number: 2 · blocks · key-value heads · head width."""
        return 2 * self.blocks * self.kv_heads * self.head * width * tokens


def shape_of(config: Mapping[str, object], where: str) -> Shape:
    """The shape in the content of a config.json; `where` names it in errors.

    Raises: ConfigError naming a field that is missing or no number.
    """

    def number(name: str, default: int | None = None) -> int:
        value = config.get(name, default)
        value = default if value is None else value
        if not isinstance(value, int) or value <= 0:
            raise ConfigError(
                f"{where}: {name} is {value!r}; the plan knows Llama-like models, whose {name} is a number"
            )
        return value

    hidden, intermediate, blocks, heads, vocabulary = (number(name) for name in _FIELDS)
    return Shape(
        hidden=hidden,
        intermediate=intermediate,
        blocks=blocks,
        heads=heads,
        kv_heads=number("num_key_value_heads", heads),
        head=number("head_dim", hidden // heads or 1),
        vocabulary=vocabulary,
        tied=config.get("tie_word_embeddings") is True,
        qkv_bias=bool(config.get("attention_bias", config.get("model_type") in _WITH_QKV_BIAS)),
    )


def read_shape(path: Path) -> Shape:
    """The shape in a config.json, or in the one of a model folder. Raises: ConfigError when it cannot be read."""
    path = path / "config.json" if path.is_dir() else path
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as a model's config.json: {error}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path}: is not a JSON object")
    return shape_of(config, str(path))
