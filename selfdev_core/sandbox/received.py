"""What the trusted side makes of a result stream: every frame is checked against what is due, before anything is used."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast, get_args

from selfdev_core.records import Reason
from selfdev_core.sandbox.bundle import Bundle
from selfdev_core.sandbox.wire import FrameReader, WireError
from selfdev_core.tensors.finite import finite
from selfdev_core.tensors.written import fresh

if TYPE_CHECKING:
    import torch

_REASONS = frozenset(get_args(Reason))
_PER_FRAME, _END = 4096, 65536


class Run(NamedTuple):
    """What one run gave: `reason` "accepted" with one float32 tensor per parameter (none where a sink took them), or a
    named reason and no tensors."""

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


class Sink(Protocol):
    """Takes the tensors of a run one by one, so that they need not be in memory all at once."""

    def begin(self) -> None:
        """A run begins, perhaps once more: what came before counts for nothing."""

    def memory(self, size: int) -> memoryview:
        """Where a long result may be read to, bytes; it is the tensor of the next `put`."""

    def put(self, name: str, tensor: torch.Tensor) -> None:
        """The next parameter's result, float32; the sink sees to it that it is finite. Raises Refused to end the run with a
        verdict."""


class Received:
    """The frames of one run: the right parameter, in order, with the right shape, dtype and size, and finite.

    With a `sink` the tensors go there, which looks whether they are finite, and not into the run; `waited` is the seconds that
    it took for them, which are no fault of the program.
    """

    def __init__(self, bundle: Bundle, sink: Sink | None = None) -> None:
        self._reader = FrameReader(quota(bundle), self._announced, self._memory)
        self._due = list(bundle.shapes.items())[::-1]
        self._shape: tuple[int, ...] = ()  # of the tensor that comes; the header's may be equal to it and yet no shape
        self._waiting = len(self._due)
        self._sink = sink
        self._tensors: dict[str, torch.Tensor] = {}
        self._end: tuple[Reason, str] | None = None
        self.waited = 0.0
        if sink is not None:
            sink.begin()

    def room(self) -> memoryview | None:
        """Where the next bytes of the stream may be read to, to be told with `took`; None when `feed` wants them."""
        return self._reader.room()

    def took(self, count: int) -> Run | None:
        """So many bytes were read into `room`; see `feed`."""
        return self._follow(self._reader.took(count))

    def feed(self, data: bytes | memoryview) -> Run | None:
        """Take in a piece of the stream; the verdict, once the stream has come to its end. What is sent later is not looked at.

        Raises WireError when a frame is malformed or not the one that is due, Refused when its tensor is not finite.
        """
        return self._follow(self._reader.feed(data))

    def _follow(self, frames: Iterator[tuple[dict[str, Any], bytearray | memoryview]]) -> Run | None:
        for header, body in frames:
            self._take(header, body)
            if self._end is not None:
                return Run(*self._end, self._tensors if self._end[0] == "accepted" else {})
        return None

    def _announced(self, header: dict[str, Any]) -> None:
        """Refuse a frame by its header, before there is memory for what it promises."""
        if "end" in header:
            if header.get("bytes", 0) > _END:
                raise WireError("ends with more than a verdict")
            return
        if not self._due:
            raise WireError("sends more tensors than asked for")
        name, shape = self._due.pop()
        self._shape = shape
        expected = {"name": name, "shape": list(shape), "dtype": "float32", "bytes": 4 * _numel(shape)}
        if header != expected:
            raise WireError(f"sends {str(header)[:120]} where {name} was due")

    def _memory(self, size: int) -> memoryview:
        if self._sink is None:
            return fresh(size)
        began = time.monotonic()
        found = self._sink.memory(size)
        self.waited += time.monotonic() - began
        return found

    def _take(self, header: dict[str, Any], body: bytearray | memoryview) -> None:
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
        self._waiting -= 1
        name = header["name"]
        tensor = torch.from_numpy(numpy.frombuffer(body, numpy.float32)).reshape(self._shape)
        if self._sink is None:
            if not finite(tensor):
                raise Refused("not-finite", f"returns NaN or infinity (on {name})")
            self._tensors[name] = tensor
            return
        began = time.monotonic()
        self._sink.put(name, tensor)
        self.waited += time.monotonic() - began

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
