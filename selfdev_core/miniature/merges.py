"""Merging for the build's own measurements: task vectors, uniform and per-expert sums, and candidate programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from selfdev_core.sandbox import layers
from selfdev_core.sandbox.bundle import write_bundle
from selfdev_core.sandbox.client import Sandbox
from selfdev_core.scratch import Scratch

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM

Delta = dict[str, "torch.Tensor"]

_SECONDS, _MEMORY_GB = 10.0, 4.0


class TaskVectors(NamedTuple):
    """Expert minus seed, float32, by parameter name and then expert name; `layers` is the number of layers."""

    by_parameter: dict[str, dict[str, torch.Tensor]]
    layers: int


def task_vectors(seed: LlamaForCausalLM, experts: Mapping[str, LlamaForCausalLM], scope: str) -> TaskVectors:
    """The task vectors of every parameter in the scope ("mlp": the feed-forward matrices; "all": every matrix)."""
    base = dict(seed.named_parameters())
    others = {name: dict(expert.named_parameters()) for name, expert in experts.items()}
    return TaskVectors(
        {
            parameter: {name: (other[parameter] - weight).detach() for name, other in others.items()}
            for parameter, weight in base.items()
            if scope == "all" or f".{scope}." in parameter
        },
        seed.config.num_hidden_layers,
    )


def weighted(vectors: TaskVectors, coefficients: Mapping[str, float]) -> Delta:
    """The weighted sum of the experts' task vectors (task arithmetic when all coefficients are equal)."""
    return {
        parameter: sum((coefficients[name] * tau for name, tau in taus.items()), start=0 * next(iter(taus.values())))
        for parameter, taus in vectors.by_parameter.items()
    }


@contextmanager
def applied(model: LlamaForCausalLM, delta: Delta) -> Iterator[LlamaForCausalLM]:
    """The model plus a delta while inside, exactly itself again after."""
    import torch

    weights = {name: weight for name, weight in model.named_parameters() if name in delta}
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    try:
        with torch.no_grad():
            for name, weight in weights.items():
                weight.add_(delta[name])
        yield model
    finally:
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(before[name])


@contextmanager
def program_runner(vectors: TaskVectors) -> Iterator[Callable[[str], Delta | None]]:
    """Inside, a function that says what a candidate program makes of the task vectors: None when it gets no verdict
    "accepted". Programs run in the sandbox, at the best level of this machine.
    """
    with Scratch() as scratch:
        experts = tuple(next(iter(vectors.by_parameter.values())))
        bundle = write_bundle(scratch.path / "vectors.safetensors", vectors.by_parameter, experts, vectors.layers)
        with Sandbox({"vectors": bundle}, _SECONDS, _MEMORY_GB, level=layers.grant(None)) as sandbox:

            def run(source: str) -> Delta | None:
                done = sandbox.run(source, "vectors")
                return done.tensors if done.reason == "accepted" else None

            yield run
