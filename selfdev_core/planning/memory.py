"""GPU memory of one device: weights, key-value cache, and what a DPO update holds. All in bytes.

Sources of the arithmetic: Hu et al. 2021 (LoRA), Kingma and Ba 2015 (two moments per trained weight), Chen et al. 2016
(checkpointing keeps one activation per block and token). Frameworks need some 10 % and a gigabyte of their own on top.
"""

from __future__ import annotations

from typing import NamedTuple

from selfdev_core.planning.shapes import Shape

HALF, FULL = 2, 4
TRAINED = 16  # bytes per trained weight: itself, its gradient and two moments, in float32
OWN = 1.0e9  # CUDA context and kernels


class Serving(NamedTuple):
    weights: float
    cache: float

    @property
    def total(self) -> float:
        return self.weights + self.cache + OWN


class Training(NamedTuple):
    weights: float
    trained: float
    activations: float

    @property
    def total(self) -> float:
        return self.weights + self.trained + self.activations + OWN


def serving(shape: Shape, sequences: int, tokens: int, devices: int = 1) -> Serving:
    """A model in half precision that continues `sequences` texts of `tokens` tokens (prompt included) at once, on `devices`
    GPUs by tensor parallelism."""
    return Serving(shape.parameters * HALF / devices, shape.cache_bytes(sequences * tokens) / devices)


def training(shape: Shape, rank: int | None, pairs: int, tokens: int) -> Training:
    """A DPO step over `pairs` pairs of texts of `tokens` tokens; `rank`: of LoRA, None for the full fine-tune.

    The reference log-probabilities are computed beforehand, so no second model is held. Activations: one half-precision vector
    per block and token, the widest part of one block, and the logits with their gradient in float32.
    """
    texts = 2 * pairs * tokens
    kept = shape.blocks * shape.hidden * HALF * texts
    widest = (3 * shape.intermediate + 4 * shape.hidden) * HALF * texts
    logits = 2 * shape.vocabulary * FULL * texts
    if rank is None:
        return Training(0.0, shape.parameters * TRAINED, kept + widest + logits)
    return Training(shape.parameters * HALF, shape.lora(rank) * TRAINED, kept + widest + logits)
