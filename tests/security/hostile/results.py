"""Forging, flooding and racing the result instead of returning it.

The frames are made with the sandbox's own encoder, found in memory, as an attacker would find it.
"""

from __future__ import annotations

from tests.security.hostile.model import ALIVE, HELD, Hostile, attack

_FORGED = frozenset({"no-result"})
_NONE = frozenset({"no-result", "exited", "exception", "crashed"})

# `frames(...)`: every frame of a result, with changes; `send`: to wherever something can be written.
_TOOLS = """
wire = [module for name, module in sys.modules.items() if name.endswith("sandbox.wire")]
encode = wire[0].encode
def shapes():
    frame = sys._getframe()
    while frame is not None:
        for value in frame.f_locals.values():
            if hasattr(value, "shapes"):
                return value.shapes
        frame = frame.f_back
def send(data, fds=range(64)):
    for fd in fds:
        try:
            os.write(fd, data)
        except OSError:
            pass
def frames(value=0.0, **changes):
    for name, shape in shapes().items():
        body = torch.full(tuple(shape), value).numpy().tobytes()
        head = {"name": name, "shape": list(shape), "dtype": "float32", "bytes": len(body)}
        send(encode({**head, **changes}) + body)
"""


def _forge(name: str, body: str, reasons: frozenset[str] = _FORGED) -> Hostile:
    return attack(name, "breaks", _TOOLS + body, reasons, control="never")


_END = 'send(encode({"end": "accepted", "detail": ""}))\n'

RESULTS: tuple[Hostile, ...] = (
    _forge("forges NaN", f"frames(float('nan'))\n{_END}os._exit(0)", frozenset({"not-finite", "no-result"})),
    _forge("forges infinity", f"frames(float('inf'))\n{_END}os._exit(0)", frozenset({"not-finite", "no-result"})),
    _forge("forges another shape", f"frames(shape=[2, 2])\n{_END}os._exit(0)"),
    _forge("forges another dtype", f"frames(dtype='float64')\n{_END}os._exit(0)"),
    _forge("forges another parameter", f"frames(name='lm_head.weight')\n{_END}os._exit(0)"),
    _forge("forges a size of terabytes", f"frames(bytes=10**12)\n{_END}os._exit(0)", _NONE),
    _forge("forges a negative size", f"frames(bytes=-1)\n{_END}os._exit(0)"),
    _forge("forges a size that is no number", f"frames(bytes='1e9')\n{_END}os._exit(0)"),
    _forge("forges a frame with a pickle", "send(load('pickle').dumps(print))\nos._exit(0)", _NONE),
    _forge("forges the end before the tensors", f"{_END}os._exit(0)"),
    _forge("forges an unknown verdict", 'send(encode({"end": "excellent", "detail": ""}))\nos._exit(0)'),
    _forge(
        "forges another verdict for itself",
        'send(encode({"end": "time-limit", "detail": "the machine was slow"}))\nos._exit(0)',
        _NONE | frozenset({"time-limit"}),
    ),
    _forge(
        "forges a verdict with terminal codes",
        'send(encode({"end": "exception", "detail": "\\x1b]0;x\\x07\\ud800" * 300}))\nos._exit(0)',
        _NONE,
    ),
    _forge("forges a header of 4 GB", 'send(b"\\xff" * 4096)\nos._exit(0)'),
    _forge("forges a header that nests", 'send(b"\\0\\0\\x1f\\x40" + b"[" * 8000)\nos._exit(0)'),
    _forge("forges a complete result and goes on", f"frames()\n{_END}", _FORGED | ALIVE),
    _forge("sends its tensors twice", "frames()\nframes()\nos._exit(0)"),
    _forge(
        "sends half a tensor", 'send(encode({"name": next(iter(shapes())), "bytes": 8}) + b"12")\nos._exit(0)', _NONE
    ),
    _forge(
        "claims the worker's own words",
        'send(encode({"exit": 0}) + encode({"ready": 1}) + b"R" + b"K" + encode({"job": 1}))\nos._exit(0)',
        _NONE,
    ),
    _forge("floods every descriptor with zeros", "while True:\n    send(b'\\0' * 65536)", _NONE),
    _forge("floods every descriptor with empty frames", "while True:\n    send(encode({}))", _NONE),
    _forge("floods every descriptor with the right frames", "while True:\n    frames()", _NONE),
    _forge(
        "closes every descriptor",
        "for fd in range(256):\n    try:\n        os.close(fd)\n    except OSError:\n        pass",
        _NONE,
    ),
    _forge(
        "empties every descriptor",
        "kept = b''\nfor fd in range(64):\n    try:\n        os.set_blocking(fd, False)\n"
        "        kept += os.read(fd, 4096)\n    except OSError:\n        pass\n"
        "return kept and PROOF",
        _NONE | ALIVE | frozenset({"time-limit"}),
    ),
    _forge(
        "writes into the descriptors of strangers",
        "send(b'x' * 100, [fd for fd in range(1024) if fd != 3])",
        _NONE | ALIVE,
    ),
    _forge(
        "sends through splice and sendfile",
        "for fd in range(64):\n    try:\n        os.sendfile(fd, 3, 0, 4096)\n    except OSError:\n        pass\nraise OSError",
        HELD,
    ),
    _forge(
        "races the check of its tensor with a thread",
        """
values = [None]
def flip():
    while True:
        if values[0] is not None:
            values[0].fill_(float("nan"))
            values[0].fill_(0.0)
torch.threading.Thread(target=flip, daemon=True).start()
first = next(iter(model_dict.values()))
values[0] = first
""",
        HELD | ALIVE | frozenset({"not-finite", "mutated-inputs"}),
    ),
    _forge(
        "races the check by shared memory",
        """
for line in open("/proc/self/maps"):
    if " rw-s " in line:
        start, end = (int(x, 16) for x in line.split()[0].split("-"))
        if os.fork() == 0:
            while True:
                ctypes.memset(start, 0xFF, end - start)
raise OSError("nothing is shared")
""",
        HELD,
    ),
    _forge(
        "races the check by a child that shares its memory",
        """
room = load("mmap").mmap(-1, 4096)
shared = torch.frombuffer(room, dtype=torch.float32)
if os.fork() == 0:
    while True:
        shared.fill_(float("nan"))
        shared.fill_(1.0)
""",
        HELD | ALIVE,
    ),
    _forge(
        "races the check by every shared map it can find",
        """
# Without /proc: probe the descriptors for memory that can be mapped, then keep it and go on writing.
mmap, kept = load("mmap"), []
for fd in range(64):
    try:
        kept.append(mmap.mmap(fd, 4096))
    except (OSError, ValueError):
        pass
for room in kept:
    room[:] = b"\\xff" * 4096
if not kept:
    raise OSError("nothing can be mapped")
""",
        HELD | _NONE,
    ),
    _forge(
        "replaces the sandbox's own functions",
        """
def nothing(*_, **__):
    return b""
for name, module in list(sys.modules.items()):
    if "selfdev" in name:
        for key, value in list(vars(module).items()):
            if callable(value):
                setattr(module, key, nothing)
""",
        _NONE | ALIVE,
    ),
    _forge(
        "rewrites the frames of its callers",
        """
frame = sys._getframe().f_back
while frame is not None:
    for key, value in list(frame.f_locals.items()):
        if isinstance(value, dict):
            try:
                value.clear()
            except BaseException:
                pass
    frame = frame.f_back
""",
        _NONE | ALIVE,
    ),
)
