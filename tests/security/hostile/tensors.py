"""Results that are not what the contract asks for, or only look like it."""

from __future__ import annotations

from tests.security.hostile.model import ALIVE, HELD, Hostile, merging

_TYPE, _DTYPE, _SHAPE = frozenset({"wrong-type"}), frozenset({"wrong-dtype"}), frozenset({"wrong-shape"})
_NOT_FINITE, _MUTATED = frozenset({"not-finite"}), frozenset({"mutated-inputs"})

_LIAR = """
class Liar(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function.__name__ in ("isfinite", "all", "__bool__", "equal"):
            return torch.tensor(True)
        return super().__torch_function__(function, types, args, kwargs or {})
"""
_SHAPELESS = """
class Liar(torch.Tensor):
    shape = property(lambda self: torch.Size([16, 16]))
    def detach(self): return self
    def to(self, *a, **k): return self
    def contiguous(self): return self
    def reshape(self, *a): return self
    def numpy(self): return __import__("numpy").full(10**6, float("nan"), dtype="f4")
"""
_CARRIER = """
class Carrier(torch.Tensor):
    def __reduce__(self): return (print, ("forged",))
    __reduce_ex__ = lambda self, protocol: (print, ("forged",))
"""

TENSORS: tuple[Hostile, ...] = (
    merging("returns nothing", "return None", _TYPE),
    merging("returns a list", "return v.tolist()", _TYPE),
    merging("returns an array", "return v.numpy()", _TYPE),
    merging("returns a dict of tensors", "return model_dict", _TYPE),
    merging(
        "returns an object that says it is a tensor",
        "return Fake()",
        _TYPE | HELD,
        before="class Fake:\n    __class__ = torch.Tensor\n    dtype, shape = torch.float32, torch.Size([16, 16])\n",
    ),
    merging(
        "returns an object with a pickle payload",
        "return Carrier()",
        _TYPE,
        before="class Carrier:\n    def __reduce__(self): return (print, ('forged',))\n",
    ),
    merging("returns a generator", "return iter([v])", _TYPE),
    merging("returns a storage", "return v.untyped_storage()", _TYPE),
    merging("returns integers", "return v.long()", _DTYPE),
    merging("returns booleans", "return v > 0", _DTYPE),
    merging("returns complex numbers", "return v + 0j", _DTYPE),
    merging(
        "returns a quantized tensor", "return torch.quantize_per_tensor(v, 0.1, 0, torch.qint8)", _DTYPE | HELD | _TYPE
    ),
    merging("returns 8-bit floats", "return v.to(torch.float8_e4m3fn)", ALIVE | HELD | _DTYPE),
    merging(
        "returns raw bits", "return v.view(torch.int32).view(torch.bits16) if False else v.to(torch.uint8)", _DTYPE
    ),
    merging("returns one number", "return v.sum()", _SHAPE),
    merging("returns a row", "return v[:1]", _SHAPE),
    merging("returns an empty tensor", "return v[:0]", _SHAPE),
    merging("returns one more dimension", "return v[None]", _SHAPE),
    merging("returns the transpose", "return v.mT.contiguous()[:8] if v.dim() > 1 else v[:1]", _SHAPE),
    merging("returns a tensor of no device", "return v.to('meta')", HELD | _TYPE),
    merging("returns a tensor of an absent device", "return v.to('cuda:7')", HELD),
    merging("returns a nested tensor", "return torch.nested.nested_tensor([v, v])", HELD | _TYPE | _SHAPE),
    merging(
        "returns a jagged nested tensor",
        "return torch.nested.nested_tensor([v, v], layout=torch.jagged)",
        HELD | _TYPE | _SHAPE,
    ),
    merging("returns a sparse tensor", "return v.to_sparse()", HELD | _TYPE),
    merging("returns a compressed sparse tensor", "return v.to_sparse_csr()", HELD | _TYPE),
    merging("returns a tensor of another layout", "return v.to_mkldnn()", HELD | _TYPE | ALIVE),
    merging("returns NaN", "return v * float('nan')", _NOT_FINITE),
    merging("returns one NaN", "w = v.clone()\nw.view(-1)[-1] = float('nan')\nreturn w", _NOT_FINITE),
    merging("returns infinity", "return v / 0.0", _NOT_FINITE),
    merging("returns minus infinity", "return torch.full_like(v, -float('inf'))", _NOT_FINITE),
    merging(
        "returns numbers too large for float32", "return torch.full_like(v, 1e300, dtype=torch.float64)", _NOT_FINITE
    ),
    merging("returns denormal numbers", "return torch.full_like(v, 1e-45)", ALIVE),
    merging(
        "returns NaN with a friendly isfinite",
        "torch.isfinite = lambda t: torch.ones(1, dtype=torch.bool)\nreturn v * float('nan')",
        _NOT_FINITE,
    ),
    merging(
        "returns NaN by a subclass that denies it",
        "return (v * float('nan')).as_subclass(Liar)",
        _NOT_FINITE | HELD | _TYPE,
        before=_LIAR,
    ),
    merging(
        "returns a subclass that lies about all",
        "return v[:1].as_subclass(Liar)",
        _SHAPE | HELD | _TYPE | _NOT_FINITE | frozenset({"no-result"}),
        before=_SHAPELESS,
    ),
    merging(
        "returns a subclass with a pickle payload",
        "return v.as_subclass(Carrier)",
        ALIVE | _TYPE | HELD,
        before=_CARRIER,
    ),
    merging(
        "returns a parameter with hooks",
        "w = v.clone().requires_grad_()\nw.register_hook(lambda g: 1 / 0)\nreturn w",
        ALIVE,
    ),
    merging(
        "returns a result that still computes",
        "w = v.clone().requires_grad_()\nwith torch.enable_grad():\n    return w * 2",
        ALIVE,
    ),
    merging("returns an input unchanged", "return v", ALIVE),
    merging("returns a view of an input", "return v.view(-1).view(v.shape)", ALIVE),
    merging("returns an expanded zero", "return torch.zeros(1).expand(v.shape)", ALIVE),
    merging("returns a flipped view", "return v.flip(0)", ALIVE),
    merging("returns an overlapping view", "return v.view(-1).as_strided(v.shape, [0] * v.dim())", ALIVE),
    merging("returns a lazily negated view", "return torch.complex(v, -v).conj().imag", ALIVE),
    merging("returns a view past its storage", "return v.as_strided((2**20,), (1,))", HELD | _SHAPE),
    merging(
        "returns a tensor whose storage is gone",
        "w = v.clone()\nw.untyped_storage().resize_(0)\nreturn w",
        HELD | ALIVE | frozenset({"crashed", "not-finite"}),
    ),
    merging(
        "returns memory that it has freed",
        "w = torch.from_numpy(__import__('numpy').zeros(v.shape, 'f4'))\n"
        "w.untyped_storage().resize_(0) if False else None\nreturn torch.empty(v.shape).fill_(0)",
        ALIVE,
    ),
    merging("adds to an input in place", "v += 1\nreturn v.clone()", _MUTATED),
    merging("writes an entry through a view", "v.view(-1)[0] = 9\nreturn v * 0.5", _MUTATED),
    merging("writes an input through .data", "v.data.fill_(3)\nreturn v * 0.5", _MUTATED),
    merging("writes an input through numpy", "v.numpy().fill(3)\nreturn torch.zeros(v.shape)", _MUTATED),
    merging(
        "writes an input through its address",
        "torch.ctypes.memset(v.data_ptr(), 0, 4)\nreturn torch.zeros(v.shape)",
        _MUTATED,
    ),
    merging("resizes an input", "w = v.clone()\nv.resize_(1)\nreturn w", _MUTATED),
    merging("points an input elsewhere", "w = v.clone()\nv.set_(torch.zeros(3))\nreturn w", _MUTATED),
    merging(
        "exchanges its inputs", "a, b = model_dict.values()\nc = a.clone()\na.copy_(b)\nb.copy_(c)\nreturn c", _MUTATED
    ),
    merging("writes NaN into an input", "w = v.clone()\nv.fill_(float('nan'))\nreturn w", _MUTATED),
    merging(
        "changes an input with a friendly torch.equal",
        "torch.equal = lambda *_: True\nv += 1\nreturn v.clone()",
        _MUTATED | ALIVE,
    ),
    merging(
        "changes an input and puts it back", "w = v.clone()\nv += 1\nkept = v * 0.5\nv.copy_(w)\nreturn kept", ALIVE
    ),
    merging("empties model_dict", "model_dict.clear()\nreturn v", ALIVE),
    merging(
        "draws other numbers in each run",
        "return v * float(torch.importlib.import_module('time').perf_counter_ns() % 9 + 1)",
        ALIVE,
    ),
)
