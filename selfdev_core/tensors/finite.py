"""Whether numbers are finite, told from their bits: what is not has every bit of the exponent set, so it is among the largest
when the bits are read as integers. Two passes over memory that is in the core's cache, and no thread but the caller's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_BLOCK = 1 << 17  # bytes
# Bytes per number → integers of that size; number format → the bits of +infinity.
_INTEGERS = {2: ("int16", "uint16"), 4: ("int32", "uint32"), 8: ("int64", "uint64")}
_INFINITY = {"bfloat16": 0x7F80, "float16": 0x7C00, "float32": 0x7F800000, "float64": 0x7FF0000000000000}


def finite(tensor: torch.Tensor) -> bool:
    """Whether no entry of a contiguous bfloat16, float16, float32 or float64 tensor on the CPU is NaN or infinite."""
    import torch

    width = tensor.element_size()
    signed, unsigned = _INTEGERS[width]
    infinity = _INFINITY[str(tensor.dtype).removeprefix("torch.")]
    bits = tensor.reshape(-1).view(getattr(torch, signed)).numpy()
    negative_infinity = infinity | (1 << (8 * width - 1))
    step = _BLOCK // width
    for start in range(0, bits.size, step):
        block = bits[start : start + step]
        if int(block.max()) >= infinity or int(block.view(unsigned).max()) >= negative_infinity:
            return False
    return True
