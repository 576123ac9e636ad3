"""What the trusted side makes of a result stream: every frame is checked against what is due, before anything is used."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

from selfdev_core.records import Reason
from selfdev_core.sandbox.bundle import Bundle
from selfdev_core.sandbox.wire import FrameReader, WireError

if TYPE_CHECKING:
    import torch

_REASONS = frozenset(get_args(Reason))
_PER_FRAME, _END = 4096, 65536


class Run(NamedTuple):
    """What one run gave: `reason` "accepted" with one float32 tensor per parameter, or a named reason and no tensors."""

    reason: Reason
    detail: str
    tensors: dict[str, torch.Tensor]


def quota(bundle: Bundle) -> int:
    """Bytes that an honest result stream can have at most."""
    return sum(4 * _numel(shape) + _PER_FRAME for shape in bundle.shapes.values()) + _END


class Refused(WireError):
    """A frame in good form whose content gives the program a verdict."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Received:
    """The frames of one run: the right parameter, in order, with the right shape, dtype and size, and finite."""

    def __init__(self, bundle: Bundle) -> None:
        self._reader = FrameReader(quota(bundle))
        self._waiting = list(bundle.shapes.items())[::-1]
        self._tensors: dict[str, torch.Tensor] = {}
        self._end: tuple[Reason, str] | None = None

    def feed(self, data: bytes | memoryview) -> Run | None:
        """Take in a piece of the stream; the verdict, once the stream has come to its end. What is sent later is not looked at.

        Raises WireError when a frame is malformed or not the one that is due, Refused when its tensor is not finite.
        """
        for header, body in self._reader.feed(data):
            self._take(header, body)
            if self._end is not None:
                return Run(*self._end, self._tensors if self._end[0] == "accepted" else {})
        return None

    def _take(self, header: dict[str, Any], body: bytearray) -> None:
        import numpy
        import torch

        if "end" in header:
            reason, detail = header["end"], header.get("detail")
            if not isinstance(reason, str) or reason not in _REASONS or not isinstance(detail, str):
                raise WireError("ends without a proper verdict")
            if reason == "accepted" and self._waiting:
                raise WireError("ends before its last tensor")
            self._end = (cast("Reason", reason), readable(detail))
            return
        if not self._waiting:
            raise WireError("sends more tensors than asked for")
        name, shape = self._waiting.pop()
        expected = {"name": name, "shape": list(shape), "dtype": "float32", "bytes": 4 * _numel(shape)}
        if header != expected:
            raise WireError(f"sends {str(header)[:120]} where {name} was due")
        values = numpy.frombuffer(body, numpy.float32)  # numpy checks in this thread; torch would start others
        if not numpy.isfinite(values).all():
            raise Refused("not-finite", f"returns NaN or infinity (on {name})")
        self._tensors[name] = torch.from_numpy(values).reshape(shape)

    def cut_off(self, exit_code: int) -> Run:
        """The verdict of a program whose process ended before its stream (negative code: killed by that signal)."""
        if exit_code == -signal.SIGXCPU:
            return Run("time-limit", "uses too much CPU time", {})
        if exit_code == -signal.SIGXFSZ:
            return Run("exception", "writes to a file", {})
        if exit_code < 0:
            return Run("crashed", died_of(-exit_code), {})
        return Run("exited", f"its process ended with status {exit_code} before a result", {})


def died_of(number: int) -> str:
    return f"its process died of signal {number}"


def readable(detail: str) -> str:
    """Text that any record and any terminal can hold: short, no lone surrogate, no control character."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in detail[:400])


def _numel(shape: tuple[int, ...]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size
