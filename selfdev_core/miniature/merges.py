"""Merging for the build's own measurements: task vectors, uniform and per-expert sums, and candidate programs.

Candidate programs run in a forked child that holds tensors only and is killed after a time limit. This keeps a
hanging or crashing program from stopping a build; it is no defence against hostile code (see `selfdev_core.sandbox`).
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NamedTuple

from selfdev_core.algorithm.contract import Layer

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM

Delta = dict[str, "torch.Tensor"]

_TIME_LIMIT = 10.0


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


def run_program(source: str, vectors: TaskVectors, time_limit: float = _TIME_LIMIT) -> Delta | None:
    """What a candidate program makes of the task vectors, or None when it breaks the contract or the time limit."""
    import torch

    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    child = fork.Process(target=_run_and_send, args=(source, vectors, sender), daemon=True)
    child.start()
    sender.close()
    try:
        raw = receiver.recv_bytes() if receiver.poll(time_limit) else b""
    except EOFError:
        raw = b""
    finally:
        receiver.close()
        child.kill()
        child.join()
    if not raw:
        return None
    flat = torch.frombuffer(bytearray(raw), dtype=torch.float32)
    shapes = {parameter: next(iter(taus.values())).shape for parameter, taus in vectors.by_parameter.items()}
    parts = torch.split(flat, [shape.numel() for shape in shapes.values()])
    return {parameter: part.view(shape) for (parameter, shape), part in zip(shapes.items(), parts, strict=True)}


def _run_and_send(source: str, vectors: TaskVectors, sender: Connection) -> None:
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        namespace: dict[str, Any] = {}
        exec(compile(source, "<candidate>", "exec"), namespace)
        results = [
            _checked(namespace["merge_models"], taus, _layer(parameter, vectors.layers))
            for parameter, taus in vectors.by_parameter.items()
        ]
        sender.send_bytes(torch.cat([result.flatten() for result in results]).numpy().tobytes())
    except Exception:  # any failure of a candidate means the same: no result
        pass
    finally:
        sender.close()


def _checked(merge: Any, taus: dict[str, torch.Tensor], layer: Layer) -> torch.Tensor:
    import torch

    given = {name: tau.clone() for name, tau in taus.items()}
    result = merge(given, "cpu", layer)
    if not isinstance(result, torch.Tensor) or not result.is_floating_point():
        raise TypeError("the result is no float tensor")
    if any(not torch.equal(given[name], tau) for name, tau in taus.items()):
        raise ValueError("an input was changed in place")
    if result.shape != next(iter(taus.values())).shape or not bool(torch.isfinite(result).all()):
        raise ValueError("the result has another shape, or is not finite")
    return result.to(torch.float32)


def _layer(parameter: str, count: int) -> Layer:
    depth = next((int(part) for part in parameter.split(".") if part.isdigit()), 0)
    return Layer(depth, count, parameter)
