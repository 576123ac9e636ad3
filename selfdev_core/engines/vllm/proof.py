"""The proof that the weights asked for are the ones in use: sums over files against sums over the engine's parameters.

vLLM fuses some tensors (q, k and v; gate and up), cuts them over GPUs, and repacks them for the CPU. The sums are such that
the sum of what was fused is the sum of its parts, so they are compared per block of the model and kind of layer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_MLP = (".mlp.", ".feed_forward.", ".ffn.", ".block_sparse_moe.")
_COMPUTED = "rotary_emb.inv_freq"  # old checkpoints hold it; engines compute it
_HEAD = "lm_head.weight"


def total_of(shares: list[dict[str, int]]) -> dict[str, int]:
    """Sum per parameter over the workers of an engine; what each of them holds whole counts once."""
    total = {}
    for name in shares[0]:
        each = [share[name] for share in shares]
        total[name] = each[0] if len(set(each)) == 1 else _signed(sum(each))
    return total


def faults(engine: Mapping[str, int], files: Mapping[str, int], skip: tuple[str, ...] = ()) -> list[str]:
    """Groups of parameters in which the engine does not hold what the files do; empty when all is as it should be.

    `engine`, `files`: parameter name (the engine's, the checkpoint's) → sum. `skip`: kinds that cannot be compared.
    """
    tied = _HEAD not in files and _HEAD in engine  # the embedding serves as the head, too
    expected = _groups({name: value for name, value in files.items() if _COMPUTED not in name})
    if _HEAD in files and _HEAD not in engine:  # tied in the engine: one tensor, stored twice
        expected = _groups({name: v for name, v in files.items() if _COMPUTED not in name and name != _HEAD})
    found = _groups({name: value for name, value in engine.items() if not (tied and name == _HEAD)})
    wrong = {group for group in expected.keys() | found.keys() if expected.get(group, 0) != found.get(group, 0)}
    if tied and engine[_HEAD] != next((v for name, v in files.items() if "embed" in name), engine[_HEAD]):
        wrong.add(_HEAD)
    return sorted(group for group in wrong if not group.endswith(tuple(skip)))


def group_of(name: str) -> str:
    """`block 3 mlp`, `block 3 norm`, `block 3 attention`, or `outside blocks`."""
    number = re.search(r"\.(\d+)\.", name)
    if number is None:
        return "outside blocks"
    kind = "norm" if "norm" in name else "mlp" if any(part in name for part in _MLP) else "attention"
    return f"block {number[1]} {kind}"


def _groups(sums: Mapping[str, int]) -> dict[str, int]:
    groups: dict[str, int] = {}
    for name, value in sums.items():
        group = group_of(name)
        groups[group] = _signed(groups.get(group, 0) + value)
    return groups


def _signed(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63
