"""Which parameters are merged."""

from __future__ import annotations

from selfdev_core.records import Scope

_MLP = (".mlp.", ".feed_forward.", ".ffn.", ".block_sparse_moe.")


def in_scope(parameter: str, scope: Scope) -> bool:
    """`mlp`: weights of the feed-forward blocks (the paper merges these only); `all`: every parameter."""
    return scope == "all" or any(part in parameter for part in _MLP)
