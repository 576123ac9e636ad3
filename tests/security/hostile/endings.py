"""Ending in every other way than by a result: exits, crashes, faults in C, depths without end."""

from __future__ import annotations

from tests.security.hostile.model import ALIVE, HELD, Hostile, attack, merging, text

_MERGE = "def merge_models(model_dict, device):\n    return next(iter(model_dict.values()))\n"
_CRASH = frozenset({"crashed"})
_EXIT = frozenset({"exited"})


def _crash(name: str, body: str, reasons: frozenset[str] = _CRASH) -> Hostile:
    return attack(name, "crashes", body, reasons)


ENDINGS: tuple[Hostile, ...] = (
    merging("calls sys.exit", "torch.sys.exit(0)", _EXIT),
    merging("raises SystemExit with an object", "raise SystemExit([v, v])", _EXIT),
    text("exits when it is defined", f"{_MERGE}raise SystemExit\n", _EXIT, passes_check=True),
    merging("calls os._exit(0)", "torch.os._exit(0)", _EXIT),
    merging("calls os._exit(3)", "torch.os._exit(3)", _EXIT),
    merging("ends its process by the raw system call", "torch.ctypes.CDLL(None).syscall(231, 0)", _EXIT),
    merging("ends its thread by the raw system call", "torch.ctypes.CDLL(None).syscall(60, 0)", _EXIT),
    merging("raises KeyboardInterrupt", "raise KeyboardInterrupt", HELD),
    merging(
        "raises an error that cannot be printed",
        "raise Mute()",
        HELD,
        before="class Mute(Exception):\n    def __str__(self):\n        raise SystemExit\n",
    ),
    merging("raises an error whose name lies", "raise type('accepted', (BaseException,), {})()", HELD),
    merging("raises an error that prints 100 MB", "raise ValueError('x' * 10**8)", HELD | frozenset({"memory-limit"})),
    merging(
        "raises an error that carries a payload",
        "raise Carrier()",
        HELD,
        before="class Carrier(Exception):\n    def __reduce__(self):\n        return (print, ('forged',))\n",
    ),
    merging("raises an error with NUL and lone surrogates", "raise ValueError('\\ud800\\0\\x1b[2J' * 40)", HELD),
    merging("raises an error that commands the terminal", 'raise ValueError("\\x1b]0;x\\x07\\x1b[2J\\x9b8m\\r")', HELD),
    merging("waits for input", "input()\nreturn v", HELD),
    merging("stops in the debugger", "breakpoint()\nreturn v", HELD | ALIVE),
    _crash("segfaults by ctypes", "ctypes.string_at(0)"),
    _crash("jumps into nothing", "ctypes.CFUNCTYPE(None)(4096)()"),
    _crash("aborts", "os.abort()"),
    _crash("kills itself", "os.kill(os.getpid(), 9)"),
    _crash("kills its own group", "os.kill(0, 9)", _CRASH | HELD),
    _crash(
        "divides in machine code by zero",
        "ctypes.CDLL(None).raise_(8) if hasattr(ctypes.CDLL(None), 'raise_') else getattr(ctypes.CDLL(None), 'raise')(8)",
    ),
    _crash(
        "runs an illegal instruction",
        "room = load('mmap').mmap(-1, 4096, prot=7)\nroom.write(b'\\x0f\\x0b')\n"
        "ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(room)))()",
    ),
    _crash(
        "runs broken bytecode",
        "def f(): pass\nexec(f.__code__.replace(co_code=bytes([100, 255] * 50), co_consts=(), co_stacksize=1))",
        _CRASH | HELD,
    ),
    _crash(
        "overflows the stack in C",
        "sys.setrecursionlimit(10**9)\nclass Deep:\n    def __repr__(self): return repr(self)\nrepr(Deep())",
        _CRASH | HELD,
    ),
    _crash(
        "returns after damaging its heap", "for at in range(0, 2**16, 8):\n    ctypes.memset(id(None) + at, 0xFF, 8)"
    ),
    merging("recurses for ever", "return merge_models(model_dict, device)", HELD),
    merging(
        "recurses for ever with a raised limit",
        "torch.sys.setrecursionlimit(10**9)\nreturn merge_models(model_dict, device)",
        _CRASH | HELD | frozenset({"memory-limit", "time-limit"}),
    ),
    merging(
        "compiles a text nested without end", "eval('(' * 10**5)\nreturn v", HELD | _CRASH | frozenset({"memory-limit"})
    ),
    merging(
        "handles its own segfault and goes on",
        "signal = torch.importlib.import_module('signal')\nsignal.signal(11, signal.SIG_IGN)\n"
        "torch.ctypes.string_at(0)\nreturn v",
        _CRASH,
    ),
    merging("prints megabytes", "print('x' * 10**7)\nprint('x' * 10**7, file=torch.sys.stderr)\nreturn v", ALIVE),
    merging(
        "breaks its own standard streams",
        "torch.sys.stdout = torch.sys.stderr = torch.sys.stdin = None\nreturn v",
        ALIVE,
    ),
)
