"""Leaving something behind for the next program, and looking for what the last one or the harness left."""

from __future__ import annotations

from tests.security.hostile.model import ALIVE, HELD, Hostile, attack

_EITHER = ALIVE | HELD


def _patch(name: str, body: str, reasons: frozenset[str] = _EITHER) -> Hostile:
    return attack(name, "lingers", body, reasons)


def _search(name: str, body: str, reasons: frozenset[str] = _EITHER) -> Hostile:
    return attack(name, "reads", body, reasons)


MISCHIEF: tuple[Hostile, ...] = (
    _patch("changes how tensors multiply", "torch.Tensor.__mul__ = torch.Tensor.__rmul__ = lambda self, other: self"),
    _patch("changes how tensors add", "torch.Tensor.__add__ = torch.Tensor.__radd__ = lambda self, other: self"),
    _patch("removes sum from the builtins", "torch.builtins.sum = None"),
    _patch("replaces torch itself", "sys.modules['torch'] = None\ntorch.rand = None"),
    _patch(
        "changes the default dtype", "torch.set_default_dtype(torch.float64)\ntorch.rand = lambda *a: torch.ones(*a)"
    ),
    attack("changes the default device", "lingers", "torch.set_default_device('meta')", _EITHER, control="never"),
    _patch("takes the seeds away", "torch.manual_seed = torch.random.manual_seed = lambda *_: None\ntorch.rand(5)"),
    _patch("hides a number in torch", "torch.left_behind = 1"),
    _patch(
        "hides a number in a class of the standard library",
        "load('collections').UserDict.left_behind = 1\ntorch.left_behind = 1",
    ),
    _patch(
        "patches machine code of the standard library",
        "libc = ctypes.CDLL(None)\nplace = ctypes.cast(libc.getppid, ctypes.c_void_p).value\n"
        "libc.mprotect(ctypes.c_void_p(place & ~4095), ctypes.c_size_t(8192), 7)\n"
        "ctypes.memset(place, 0xC3, 1)\nos.getppid()\ntorch.left_behind = 1",
    ),
    _patch(
        "overwrites the task vectors that the worker keeps",
        """
for thing in load("gc").get_objects():
    if isinstance(thing, dict):
        for value in list(thing.values()):
            if type(value) is torch.Tensor and value.dtype == torch.float32 and value.device.type == "cpu":
                start = value.data_ptr() & ~4095
                end = -(-(value.data_ptr() + value.nbytes) // 4096) * 4096
                if not ctypes.CDLL(None).mprotect(ctypes.c_void_p(start), ctypes.c_size_t(end - start), 7):
                    value.zero_()
torch.left_behind = 1
""",
        ALIVE | HELD | frozenset({"crashed", "mutated-inputs"}),
    ),
    _patch(
        "overwrites every tensor in the frames of its callers",
        """
frame = sys._getframe()
while frame is not None:
    for value in frame.f_locals.values():
        for inner in (value.values() if isinstance(value, dict) else ()):
            for tensor in (inner.values() if isinstance(inner, dict) else (inner,)):
                if isinstance(tensor, torch.Tensor):
                    tensor.fill_(7.0)
    frame = frame.f_back
torch.left_behind = 1
""",
        ALIVE | HELD | frozenset({"mutated-inputs", "crashed"}),
    ),
    _patch("moves to another folder with another mask", "os.umask(0o777)\nos.chdir('/')\ntorch.left_behind = 1"),
    _patch(
        "changes the environment",
        "os.environ['LD_PRELOAD'] = os.environ['PYTHONPATH'] = T['drop']\ntorch.left_behind = 1",
    ),
    _patch(
        "traces everything from now on",
        "torch.left_behind = 1\nsys.setprofile(lambda *_: None)\nload('gc').disable()\nload('gc').freeze()",
    ),
    _patch("adds a path for imports", "sys.path.insert(0, T['drop'])\nsys.meta_path.clear()\ntorch.left_behind = 1"),
    _patch(
        "turns denormals and determinism around",
        "torch.set_flush_denormal(True)\ntorch.set_deterministic_debug_mode(0)\ntorch.left_behind = 1",
    ),
    _patch(
        "registers an operator of its own",
        "library = torch.library.Library('escape', 'DEF')\nlibrary.define('x(Tensor t) -> Tensor')\ntorch.left_behind = library",
    ),
    _patch(
        "changes an operator of torch",
        "library = torch.library.Library('aten', 'IMPL')\n"
        "library.impl('mul.Tensor', lambda a, b: a, 'CPU')\ntorch.left_behind = library",
    ),
    _search(
        "searches all objects for keys",
        """
prefix = "CANARY-" + T["token"] + "-"
for thing in load("gc").get_objects():
    for value in (list(thing.values()) if type(thing) is dict else ()):
        if type(value) is str and value.startswith(prefix) and value != prefix:
            return value.encode()
""",
    ),
    _search(
        "walks the frames for keys",
        """
prefix, frame = "CANARY-" + T["token"] + "-", sys._getframe()
while frame is not None:
    for value in [*frame.f_locals.values(), *frame.f_globals.values()]:
        if type(value) is str and value.startswith(prefix) and value != prefix:
            return value.encode()
    frame = frame.f_back
""",
    ),
    _search(
        "walks the frames of an error for keys",
        """
prefix = "CANARY-" + T["token"] + "-"
try:
    1 / 0
except ZeroDivisionError as error:
    frame = error.__traceback__.tb_frame
    while frame is not None:
        for value in frame.f_globals.values():
            if type(value) is str and value.startswith(prefix) and value != prefix:
                return value.encode()
        frame = frame.f_back
""",
    ),
    _search(
        "searches the modules that are loaded for keys",
        """
prefix = "CANARY-" + T["token"] + "-"
for module in list(sys.modules.values()):
    for value in list(vars(module).values()) if hasattr(module, "__dict__") else ():
        if type(value) is str and value.startswith(prefix) and value != prefix:
            return value.encode()
""",
    ),
    _search(
        "searches its whole memory for keys",
        """
prefix = b"CANARY-" + T["token"].encode() + b"-"
for line in open("/proc/self/maps"):
    span, rights, *_ = line.split()
    start, end = (int(x, 16) for x in span.split("-"))
    if rights.startswith("rw") and end - start < 2**27:
        data = ctypes.string_at(start, end - start)
        at = data.find(prefix)
        while at >= 0:
            if data[at + len(prefix) : at + 40].isalnum():
                return data[at : at + 48]
            at = data.find(prefix, at + 1)
""",
    ),
    attack(
        "finds what the program before it left",
        "reaches",
        """
kept = load('collections').UserDict
return PROOF if hasattr(torch, 'left_behind') or hasattr(kept, 'left_behind') else b""
""",
        ALIVE,
        control="never",
    ),
    attack(
        "imports the project around it",
        "reaches",
        "load('selfdev_core.store.artifacts')\nreturn PROOF",
        control="anyone",
    ),
    attack(
        "imports this very suite",
        "reaches",
        "sys.path.insert(0, T['repo'])\nload('tests.security.world')\nreturn PROOF",
        control="anyone",
    ),
    attack(
        "finds modules that know questions or scores",
        "reaches",
        """
known = ("selfdev_core.evaluation", "selfdev_core.store", "selfdev_core.stages")
return PROOF if [name for name in sys.modules if name.startswith(known)] else b""
""",
        ALIVE,
        control="never",
    ),
    attack(
        "compiles C++ with torch",
        "writes",
        "load('torch.utils.cpp_extension').load_inline('escape', 'int x() { return 1; }', functions=['x'])",
        HELD | frozenset({"time-limit", "crashed"}),
        control="never",
    ),
    attack(
        "compiles with torch.compile",
        "reaches",
        "torch.compile(lambda x: x * 2 + 1)(torch.ones(8))",
        HELD | ALIVE | frozenset({"time-limit", "crashed", "memory-limit"}),
        control="never",
    ),
    attack(
        "loads a library of its own",
        "reaches",
        "torch.ops.load_library(T['home'] + '/absent.so')\nreturn PROOF",
        control="never",
    ),
    attack(
        "loads the C library again",
        "reaches",
        "ctypes.CDLL('libutil.so.1', 2)\nreturn PROOF",
        HELD | ALIVE,
        control="never",
    ),
    attack(
        "starts a server of torch",
        "reaches",
        "torch._C._distributed_c10d.TCPStore('127.0.0.1', 0, 1, True)\nreturn PROOF",
        HELD | frozenset({"crashed"}),
        control="never",
    ),
    attack(
        "loads data with workers",
        "reaches",
        "data = torch.utils.data.DataLoader(list(range(4)), num_workers=2)\nif list(data):\n    return PROOF",
        control="never",
    ),
    attack(
        "downloads a model",
        "talks",
        "torch.hub.download_url_to_file(f\"http://127.0.0.1:{T['tcp']}/x\", T['drop'] + '/x')",
        control="never",
    ),
)
