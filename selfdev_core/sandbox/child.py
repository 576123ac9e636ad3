"""What happens in a program's own process: the doors shut, the program runs, tensors go out, the process ends.

What the process says of itself (verdicts) is a convenience for honest programs; the trusted side checks every tensor.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from selfdev_core.algorithm.contract import ENTRY_POINT, Layer, layer_of
from selfdev_core.sandbox.bundle import Bundle
from selfdev_core.sandbox.doors import Limits, shut
from selfdev_core.sandbox.heap import Heap
from selfdev_core.sandbox.vectors import TaskVectors
from selfdev_core.sandbox.wire import encode, write_all, write_frame

if TYPE_CHECKING:
    import torch

_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory")


class Failed(Exception):
    """The program broke the contract: (reason, detail)."""


class Work(NamedTuple):
    """One program, the task vectors it is given, and what stands in for them: see `client.Given`."""

    source: str
    bundle: Bundle
    vectors: TaskVectors
    given: str
    device: str = "cpu"


def run_and_exit(work: Work, result_fd: int, limits: Limits, prepared_filter: bytes) -> NoReturn:
    """Run one program over all parameters of a bundle and end the process, whatever happens."""
    try:
        shut(result_fd, limits, prepared_filter)
    except BaseException:
        os._exit(3)
    run_to_end(work)


def run_to_end(work: Work) -> NoReturn:
    """Run the program, write its tensors and its end to descriptor 3, and end the process."""
    try:
        write_all(3, encode(_run(work)))
    except BaseException:
        os._exit(3)
    os._exit(0)


def _run(work: Work) -> dict[str, Any]:
    import torch

    where = "when it is defined"
    bundle, heap = work.bundle, Heap()
    try:
        device = torch.device(work.device)
        _seed("", device.type)
        namespace: dict[str, Any] = {"__name__": "candidate"}
        exec(compile(work.source, "candidate.py", "exec"), namespace)
        function = namespace[ENTRY_POINT]
        code = function.__code__
        wants_layer = "layer" in code.co_varnames[2 : code.co_argcount + code.co_kwonlyargcount]
        layers = _layers(bundle, work.given) if wants_layer else {}
        with torch.no_grad():
            names = list(bundle.shapes)
            for name, following in zip(names, [*names[1:], None], strict=True):
                where = f"on {name}"
                _seed(name, device.type)
                heap.expect(math.prod(bundle.shapes[name]))
                given = _given(work, name, device)
                kept, versions = dict(given), _versions(given)
                if following is not None:
                    work.vectors.expect(following)
                result = function(given, device, **({"layer": layers[name]} if wants_layer else {}))
                raw = _checked(result, bundle.shapes[name])
                if not _unchanged(work, name, kept, versions):
                    raise Failed("mutated-inputs", "changes a tensor of model_dict in place")
                work.vectors.forget(name)
                header = {"name": name, "shape": list(bundle.shapes[name]), "dtype": "float32", "bytes": len(raw)}
                del given, kept, result  # a big tensor must not wait for the next one
                write_frame(3, header, raw)
                del raw
        return {"end": "accepted", "detail": ""}
    except Failed as failure:
        return {"end": failure.args[0], "detail": f"{failure.args[1]} ({where})"}
    except SystemExit:
        return {"end": "exited", "detail": f"calls exit ({where})"}
    except MemoryError:
        return {"end": "memory-limit", "detail": where}
    except BaseException as error:
        text = _said(error)
        reason = "memory-limit" if any(word in text.lower() for word in _OUT_OF_MEMORY) else "exception"
        return {"end": reason, "detail": f"{text} ({where})"}


def _given(work: Work, name: str, device: torch.device) -> dict[str, torch.Tensor]:
    """The program's own copy of a parameter's task vectors, or zeros."""
    import torch

    if work.given != "real":
        shape = work.bundle.shapes[name]
        return {expert: torch.zeros(shape, device=device) for expert in work.bundle.experts}
    return {expert: vector.to(device) for expert, vector in work.vectors[name].items()}


def _versions(given: dict[str, torch.Tensor]) -> list[int]:
    """How often torch has changed each tensor in place; -1 where it does not count, as a program may have told it."""
    return [-1 if vector.is_inference() else vector._version for vector in given.values()]


def _unchanged(work: Work, name: str, given: dict[str, torch.Tensor], versions: list[int]) -> bool:
    if work.given != "real":
        shape = work.bundle.shapes[name]
        return all(tuple(vector.shape) == shape and not bool(vector.any()) for vector in given.values())
    touched = -1 in versions or _versions(given) != versions
    return work.vectors.unchanged(name, given, touched)


def _said(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {str(error)[:200]}"
    except BaseException:  # its text is the program's own code
        return "an exception that cannot be shown"


def _layers(bundle: Bundle, given: str) -> dict[str, Layer]:
    """The `Layer` of each parameter; with `given` "zeros-renamed", that of the next parameter of the same shape."""
    told = {name: name for name in bundle.shapes}
    if given == "zeros-renamed":
        alike: dict[tuple[int, ...], list[str]] = {}
        for name, shape in bundle.shapes.items():
            alike.setdefault(shape, []).append(name)
        for names in alike.values():
            told.update(zip(names, names[1:] + names[:1], strict=True))
    return {name: layer_of(other, bundle.blocks) for name, other in told.items()}


def _seed(name: str, device: str) -> None:
    """The same random numbers for the same parameter in every run, from each generator a program can reach."""
    import numpy
    import torch

    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
    torch.default_generator.manual_seed(seed)
    if device == "cuda":
        torch.cuda.manual_seed(seed)
    numpy.random.seed(seed % 2**32)
    random.seed(seed)


def _checked(result: object, shape: tuple[int, ...]) -> memoryview:
    """The result as raw float32 bytes. Raises Failed with the reason when it is not what the contract asks for.

    Whether it is finite the trusted side finds out.
    """
    import torch

    if not isinstance(result, torch.Tensor):
        raise Failed("wrong-type", f"returns {type(result).__name__}, not a tensor")
    if not result.dtype.is_floating_point:
        raise Failed("wrong-dtype", f"returns {result.dtype}, not a floating-point tensor")
    if tuple(result.shape) != shape:
        raise Failed("wrong-shape", f"returns shape {tuple(result.shape)}, not {shape}")
    plain = result.detach().to(device="cpu", dtype=torch.float32).contiguous()
    return memoryview(plain.reshape(-1).numpy().view("B").data)
