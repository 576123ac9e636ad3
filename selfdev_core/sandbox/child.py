"""What happens in the forked child: limits go up, the program runs, tensors go out, the process ends.

What the child says of itself (verdicts) is a convenience for honest programs; the trusted side checks every tensor.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import os
import random
import resource
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from selfdev_core.algorithm.contract import ENTRY_POINT, layer_of
from selfdev_core.sandbox.bundle import Bundle
from selfdev_core.sandbox.wire import encode, write_all

if TYPE_CHECKING:
    import torch

    Vectors = dict[str, dict[str, torch.Tensor]]

_PR_SET_PDEATHSIG = 1
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory")


class Failed(Exception):
    """The program broke the contract: (reason, detail)."""


def run_and_exit(source: str, bundle: Bundle, vectors: Vectors, result_fd: int, limits: dict[str, Any]) -> NoReturn:
    """Run one program over all parameters of a bundle and end the process, whatever happens."""
    try:
        result_fd = _shut_doors(result_fd, float(limits["seconds"]), int(limits["memory_bytes"]))
        header = _run(source, bundle, vectors, result_fd)
        write_all(result_fd, encode(header))
    except BaseException:
        os._exit(3)
    os._exit(0)


def _shut_doors(result_fd: int, seconds: float, memory_bytes: int) -> int:
    os.setsid()
    with suppress(AttributeError):  # (Linux only) a program that kills the worker ends with it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    kept = os.dup2(result_fd, 3) if result_fd != 3 else 3
    os.closerange(4, os.sysconf("SC_OPEN_MAX"))
    gc.disable()
    cpu = int(seconds) + 2
    memory = memory_bytes + _address_space()
    for kind, soft, hard in (
        (resource.RLIMIT_AS, memory, memory),
        (resource.RLIMIT_CPU, cpu, cpu + 1),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_NOFILE, 64, 64),
    ):
        resource.setrlimit(kind, (soft, hard))
    return kept


def _address_space() -> int:
    """Bytes this process has mapped already: libraries and bundles, which are no fault of the program."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _run(source: str, bundle: Bundle, vectors: Vectors, result_fd: int) -> dict[str, Any]:
    import torch

    where = "when it is defined"
    try:
        _seed("")
        namespace: dict[str, Any] = {"__name__": "candidate"}
        exec(compile(source, "candidate.py", "exec"), namespace)
        function = namespace[ENTRY_POINT]
        code = function.__code__
        wants_layer = "layer" in code.co_varnames[2 : code.co_argcount + code.co_kwonlyargcount]
        device = torch.device("cpu")
        with torch.no_grad():
            for name, originals in vectors.items():
                where = f"on {name}"
                _seed(name)
                given = {expert: tensor.clone() for expert, tensor in originals.items()}
                keywords = {"layer": layer_of(name, bundle.blocks)} if wants_layer else {}
                kept = dict(given)
                result = function(given, device, **keywords)
                raw = _checked(result, bundle.shapes[name])
                if any(not torch.equal(kept[expert], original) for expert, original in originals.items()):
                    raise Failed("mutated-inputs", "changes a tensor of model_dict in place")
                header = {"name": name, "shape": list(bundle.shapes[name]), "dtype": "float32", "bytes": len(raw)}
                write_all(result_fd, encode(header))
                write_all(result_fd, raw)
        return {"end": "accepted", "detail": ""}
    except Failed as failure:
        return {"end": failure.args[0], "detail": f"{failure.args[1]} ({where})"}
    except SystemExit:
        return {"end": "exited", "detail": f"calls exit ({where})"}
    except MemoryError:
        return {"end": "memory-limit", "detail": where}
    except BaseException as error:
        text = f"{type(error).__name__}: {str(error)[:200]}"
        reason = "memory-limit" if any(word in text.lower() for word in _OUT_OF_MEMORY) else "exception"
        return {"end": reason, "detail": f"{text} ({where})"}


def _seed(name: str) -> None:
    """The same random numbers for the same parameter in every run, from each generator a program can reach."""
    import numpy
    import torch

    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
    torch.manual_seed(seed)
    numpy.random.seed(seed % 2**32)
    random.seed(seed)


def _checked(result: object, shape: tuple[int, ...]) -> memoryview:
    """The result as raw float32 bytes. Raises Failed with the reason when it is not what the contract asks for."""
    import torch

    if not isinstance(result, torch.Tensor):
        raise Failed("wrong-type", f"returns {type(result).__name__}, not a tensor")
    if not result.dtype.is_floating_point:
        raise Failed("wrong-dtype", f"returns {result.dtype}, not a floating-point tensor")
    if tuple(result.shape) != shape:
        raise Failed("wrong-shape", f"returns shape {tuple(result.shape)}, not {shape}")
    plain = result.detach().to(device="cpu", dtype=torch.float32).contiguous()
    if not bool(torch.isfinite(plain).all()):
        raise Failed("not-finite", "returns NaN or infinity")
    return memoryview(plain.reshape(-1).numpy().view("B").data)
