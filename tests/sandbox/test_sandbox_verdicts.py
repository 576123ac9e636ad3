"""Every way in which a program can go wrong has one name, and leaves the next program untouched."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import pytest

from selfdev_core.sandbox.bundle import Bundle
from selfdev_core.sandbox.client import Sandbox
from selfdev_core.sandbox.validate import validate
from tests.security.census import Census

pytestmark = pytest.mark.usefixtures("healthy")
FIRST = "v = list(model_dict.values())[0]\n    "


def _program(body: str, arguments: str = "model_dict, device") -> str:
    return f"import torch\ndef merge_models({arguments}):\n    {FIRST if 'v' in body else ''}{body}\n"


# (reason, word of the detail, program)
ENDS = {
    "does not parse": ("syntax-error", "line 2", "import torch\ndef merge_models(model_dict, device:\n    return 1"),
    "defines nothing": ("contract", "merge_models", "import torch\n"),
    "imports os": ("forbidden-import", "'os'", "import os\n" + _program("return v")),
    "fails when it is defined": ("exception", "when it is defined", _program("return v") + "1 / 0\n"),
    "raises": ("exception", "ValueError: no", _program("raise ValueError('no')")),
    "uses an undefined name": ("exception", "NameError", _program("return nothing * v")),
    "recurses for ever": ("exception", "RecursionError", _program("return merge_models(model_dict, device)")),
    "raises KeyboardInterrupt": ("exception", "KeyboardInterrupt", _program("raise KeyboardInterrupt")),
    "raises an empty BaseException": ("exception", "BaseException", _program("raise BaseException")),
    "raises with a lone surrogate": ("exception", "ValueError", _program("raise ValueError('\\ud800 \\0')")),
    "raises with control characters": (
        "exception",
        "ValueError: \ufffd[2J",
        _program("raise ValueError('\\x1b[2J\\0')"),
    ),
    "raises what cannot be shown": (
        "exception",
        "cannot be shown",
        "class Mute(Exception):\n    def __str__(self): raise SystemExit\n" + _program("raise Mute"),
    ),
    "hides NaN": ("not-finite", "NaN", _program("torch.isfinite = torch.isnan; return v * float('nan')")),
    "raises with megabytes": ("exception", "ValueError", _program("raise ValueError('x' * 10**7)")),
    "returns the wrong shape": ("wrong-shape", "up_proj", _program("return v[:1]")),
    "returns a scalar tensor": ("wrong-shape", "shape ()", _program("return v.sum()")),
    "returns NaN": ("not-finite", "NaN", _program("return v * float('nan')")),
    "returns infinity": ("not-finite", "infinity", _program("return v / 0.0")),
    "overflows float32": ("not-finite", "infinity", _program("return (v.double() + 1) * 1e300")),
    "returns a string": ("wrong-type", "str", _program("return 'merged'")),
    "returns nothing": ("wrong-type", "NoneType", _program("return None")),
    "returns a number": ("wrong-type", "float", _program("return 0.5")),
    "returns an array": ("wrong-type", "ndarray", _program("return v.numpy()")),
    "returns integers": ("wrong-dtype", "int64", _program("return v.long()")),
    "returns booleans": ("wrong-dtype", "bool", _program("return v > 0")),
    "returns complex numbers": ("wrong-dtype", "complex64", _program("return v + 0j")),
    "returns a sparse tensor": ("exception", "", _program("return v.to_sparse()")),
    "returns a tensor without data": ("exception", "", _program("return v.to('meta')")),
    "adds in place": ("mutated-inputs", "in place", _program("v += 1\n    return v")),
    "writes an entry": ("mutated-inputs", "in place", _program("v.view(-1)[0] = 0\n    return v * 0.5")),
    "resizes an input": ("mutated-inputs", "in place", _program("w = v.clone(); v.resize_(2)\n    return w")),
    "allocates 50 GB by torch": ("memory-limit", "", _program("torch.ones(50 * 2**28)\n    return v")),
    "allocates 50 GB by Python": ("memory-limit", "", _program("x = bytearray(50 * 2**30)\n    return v")),
    "grows a list for ever": ("memory-limit", "", _program("x = [v] * 2**20\n    while True: x = x + x")),
    "calls exit": ("exited", "exit", _program("exit()")),
    "raises SystemExit": ("exited", "exit", _program("raise SystemExit('bye')")),
}

# Programs that the check of the text would refuse first: here they meet the sandbox itself.
RAW = {
    "calls os._exit": ("exited", "status 0", "import os\n" + _program("os._exit(0)")),
    "calls os._exit when defined": ("exited", "status 7", "import os\nos._exit(7)"),
    "segfaults": ("crashed", "signal 11", "import ctypes\n" + _program("ctypes.string_at(0)")),
    "aborts": ("crashed", "signal 6", "import os\n" + _program("os.abort()")),
    "kills itself": ("crashed", "signal 9", "import os\n" + _program("os.kill(os.getpid(), 9)")),
    "writes to a file": ("exception", "Error", _program("f = open('/tmp/selfdev-must-not-be', 'w'); f.write('x')")),
    "starts a process": ("exception", "Error", "import os\n" + _program("os.fork()\n    return v")),
    "starts a thread": ("exception", "thread", "import threading\n" + _program("threading.Thread(target=print).start()")),
    "does not define the entry point": ("exception", "merge_models", "x = 1"),
}  # fmt: skip

ACCEPTED = {
    "float64": _program("return v.double()"),
    "bfloat16": _program("return v.bfloat16()"),
    "float16": _program("return v.half()"),
    "a transposed view": _program("return v.mT.contiguous().mT if v.dim() > 1 else v"),
    "an expanded zero": _program("return torch.zeros(1).expand(v.shape) if v.dim() else v"),
    "an input itself": _program("return v"),
    "a tensor that requires grad": _program("return v.clone().requires_grad_()"),
    "prints megabytes": _program("print('x' * 10**7)\n    return v"),
    "prints to stderr": _program("import sys; print('x' * 10**7, file=sys.stderr)\n    return v"),
    "empties model_dict": _program("model_dict.clear()\n    return v"),
    "takes layer": _program("return v * (layer.index + 2) / layer.count", "model_dict, device, layer"),
    "takes layer by keyword": _program("return v * len(layer.name)", "model_dict, device, *, layer"),
    "names its first argument layer": "def merge_models(layer, device):\n    return sum(layer.values())",
    "has annotations that mean nothing": "def merge_models(model_dict: Dict[str, Tensor], device: Device) -> Tensor:\n"
    "    x: Undefined = 0.5\n    return x * sum(model_dict.values())",
}


@pytest.mark.parametrize("what", ENDS)
def test_a_program_that(what: str, sandbox: Sandbox) -> None:
    reason, word, source = ENDS[what]
    verdict = validate("a-0", source, sandbox)
    assert verdict.reason == reason, verdict
    assert word in verdict.detail
    assert len(verdict.detail) <= 400 and verdict.fingerprint == ""


@pytest.mark.parametrize("what", RAW)
def test_a_hostile_program_that(what: str, sandbox: Sandbox) -> None:
    reason, word, source = RAW[what]
    run = sandbox.run(source, "probes")
    assert run.reason == reason, run
    assert word in run.detail and run.tensors == {}
    assert not Path("/tmp/selfdev-must-not-be").exists()


@pytest.mark.parametrize("what", ACCEPTED)
def test_accepted_although_or_because_it_returns_or_does(what: str, sandbox: Sandbox) -> None:
    import torch

    run = sandbox.run(ACCEPTED[what], "probes")
    assert run.reason == "accepted", run.detail
    assert all(tensor.dtype == torch.float32 for tensor in run.tensors.values())


def test_layer_tells_depth_count_and_name(sandbox: Sandbox) -> None:
    source = _program("return torch.zeros_like(v) + layer.index * 10 + layer.count", "model_dict, device, layer")
    run = sandbox.run(source, "probes")
    assert [int(tensor.flatten()[0]) for tensor in run.tensors.values()] == [2, 12, 12, -8]


LOOPS = {
    "loops": _program("while True: pass"),
    "sleeps": "import time\n" + _program("time.sleep(1000)"),
    "loops when it is defined": "while True: pass",
    "swallows everything": _program(
        "while True:\n        try:\n            while True: pass\n        except BaseException: pass"
    ),
    "ignores signals": "import signal\n[signal.signal(s, signal.SIG_IGN) for s in (1, 2, 3, 14, 15, 17, 24)]\nwhile True: pass",
    "stops itself": "import os\nos.kill(os.getpid(), 19)",
    "loops in C": _program("pow(7, 10**9) if v.dim() else v"),
}


@pytest.mark.parametrize("what", LOOPS)
def test_the_deadline_ends_a_program_that(what: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "seconds", 0.6)
    began = time.monotonic()
    run = sandbox.run(LOOPS[what], "probes")
    assert time.monotonic() - began < 0.6 + 1.5
    assert run.reason == "time-limit", run
    assert re.search(r"longer than 0\.6 s", run.detail)


def test_a_program_that_does_not_end_after_its_result_is_ended(sandbox: Sandbox) -> None:
    sandbox.run(_program("return v"), "probes")  # the worker is warm
    census = Census()
    run = sandbox.run(_program("return v") + "import os\nos._exit = lambda *_: [0 for _ in iter(int, 1)]", "probes")
    assert run.reason == "accepted"
    assert census.strangers() == set()


def test_several_threads_run_programs_at_once(sandbox: Sandbox, bundle: Bundle) -> None:
    import torch

    found: dict[int, float] = {}

    def work(number: int) -> None:
        for turn in range(3):
            constant = float(10 * number + turn)
            run = sandbox.run(_program(f"return torch.full_like(v, {constant})"), "probes")
            assert run.reason == "accepted", run.detail
            assert all(bool(torch.eq(tensor, constant).all()) for tensor in run.tensors.values())
            found[number] = constant

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: 10.0 * number + 2 for number in range(4)}


def test_a_slow_program_does_not_hold_up_a_quick_one(sandbox: Sandbox) -> None:
    slow = threading.Thread(
        target=lambda: sandbox.run("import time\n" + _program("time.sleep(0.5)\n    return v"), "probes")
    )
    slow.start()
    time.sleep(0.1)
    assert sandbox.run(_program("return v"), "probes").reason == "accepted"
    assert slow.is_alive()
    slow.join()
