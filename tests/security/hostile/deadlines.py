"""Not ending: each program outlasts its deadline unless it is killed."""

from __future__ import annotations

from tests.security.hostile.model import HELD, STOPPED, Hostile, attack, merging, text

_MERGE = "def merge_models(model_dict, device):\n    return next(iter(model_dict.values()))\n"
_GO = "import torch\nos = torch.os\ntime = torch.importlib.import_module('time')\n"


def _stall(name: str, body: str, reasons: frozenset[str] = STOPPED) -> Hostile:
    return attack(name, "stalls", body, reasons)


DEADLINES: tuple[Hostile, ...] = (
    merging("spins", "while True: pass", STOPPED, "stalls", control="anyone"),
    text("spins when it is defined", f"{_MERGE}while True: pass\n", STOPPED, "stalls", True),
    _stall("sleeps", "load('time').sleep(1000)"),
    _stall(
        "ignores SIGTERM and all other signals",
        "signal = load('signal')\nfor n in set(range(1, 32)) - {9, 19}:\n    signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
    ),
    _stall(
        "blocks all signals",
        "signal = load('signal')\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nload('time').sleep(1000)",
    ),
    _stall(
        "handles every signal and goes on",
        "signal = load('signal')\nfor n in set(range(1, 32)) - {9, 19}:\n"
        "    signal.signal(n, lambda *_: None)\nwhile True: load('time').sleep(0.01)",
    ),
    _stall(
        "arms an alarm that never ends",
        "signal = load('signal')\ndef again(*_):\n    while True: pass\nsignal.signal(14, again)\n"
        "signal.setitimer(0, 0.01)\nwhile True: pass",
        STOPPED | HELD,
    ),
    merging(
        "swallows everything",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        STOPPED,
        "stalls",
        control="anyone",
    ),
    _stall("stays in C: a huge power", "pow(7, 10**9)"),
    _stall("stays in C: a pattern that backtracks", "load('re').match(r'(a+)+$', 'a' * 64 + 'b')"),
    _stall("stays in C: matrices", "m = torch.rand(3000, 3000)\nwhile True: m = m @ m / m.norm()"),
    _stall("stays in C: an endless sum", "sum(iter(int, 1))"),
    _stall("waits for a lock that it holds", "lock = torch.threading.Lock()\nlock.acquire()\nlock.acquire()"),
    _stall("waits for its own signal", "os.kill(os.getpid(), 19)"),
    _stall(
        "forks and waits for a child that spins",
        "if os.fork() == 0:\n    load('time').sleep(1000)\nos.wait()",
        STOPPED | HELD,
    ),
    _stall("waits for a pipe that nobody writes", "told, tell = os.pipe()\nos.read(told, 1)", STOPPED | HELD),
    text(
        "does not let its process end",
        _GO + "os._exit = lambda *_: sum(iter(int, 1))\n" + _MERGE,
        STOPPED | frozenset({"accepted"}),
        "stalls",
        True,
    ),
    merging(
        "returns a number that never compares",
        "return Forever()",
        frozenset({"wrong-type", "time-limit"}),
        "stalls",
        "class Forever:\n    def __getattr__(self, name):\n        while True: pass\n",
    ),
    merging(
        "raises an error that never prints",
        "raise Forever()",
        frozenset({"exception", "time-limit"}),
        "stalls",
        "class Forever(Exception):\n    def __str__(self):\n        while True: pass\n",
    ),
    _stall(
        "has a trace function that never ends",
        "def trace(*_):\n    while True: pass\nsys.settrace(trace)\n(lambda: 0)()",
    ),
    merging(
        "takes its time for every parameter",
        "t = torch.importlib.import_module('time')\nt.sleep(0.25)\nreturn v",
        STOPPED,
        "stalls",
    ),
)
