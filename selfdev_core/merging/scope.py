"""Which parameters are merged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from selfdev_core.records import Scope
from selfdev_core.tensors.mapped import FLOATS

if TYPE_CHECKING:
    from selfdev_core.merging.checkpoints import Checkpoint

_MLP = (".mlp.", ".feed_forward.", ".ffn.", ".block_sparse_moe.")
_COMPUTED = "rotary_emb.inv_freq"  # old checkpoints hold it; whoever loads them computes it
_HEADS = ("lm_head.weight", "embed_out.weight")
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")


def in_scope(parameter: str, scope: Scope) -> bool:
    """`mlp`: weights of the feed-forward blocks (the paper merges these only); `all`: every parameter."""
    return scope == "all" or any(part in parameter for part in _MLP)


def is_weight(model: Checkpoint, name: str) -> bool:
    """Whether a stored tensor is a parameter in plain numbers: no table that is computed anew, no mask, nothing quantised."""
    return model.dtypes[name] in FLOATS and _COMPUTED not in name


def merged_names(seed: Checkpoint, scope: Scope) -> list[str]:
    """The parameters that are merged, in order. Weights that are tied and stored twice are one parameter, the embedding."""
    again = aliases(seed)
    return [name for name in seed.pieces if in_scope(name, scope) and is_weight(seed, name) and name not in again]


def aliases(model: Checkpoint) -> dict[str, str]:
    """Head → embedding, where the checkpoint holds both and its configuration ties the two."""
    heads = [name for name in model.pieces if name.endswith(_HEADS)]
    embeddings = [name for name in model.pieces if name.endswith(_EMBEDDINGS)]
    if len(heads) != 1 or len(embeddings) != 1:
        return {}
    alike = all(kind[heads[0]] == kind[embeddings[0]] for kind in (model.shapes, model.dtypes))
    return {heads[0]: embeddings[0]} if alike and ties(model.config) else {}


def ties(config: Mapping[str, Any]) -> bool:
    """Whether a model's head is its embedding; where config.json does not say, its architecture's default counts."""
    nested = config.get("text_config")
    given = config.get("tie_word_embeddings", nested.get("tie_word_embeddings") if isinstance(nested, dict) else None)
    if given is None and isinstance(kind := config.get("model_type"), str):
        from transformers import CONFIG_MAPPING

        given = kind in CONFIG_MAPPING and getattr(CONFIG_MAPPING[kind], "tie_word_embeddings", False)
    return bool(given)
