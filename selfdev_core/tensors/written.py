"""Tensors on their way to disk: a file whose tensors may come in any order, and a thread that writes behind."""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from selfdev_core.tensors.mapped import DTYPES

if TYPE_CHECKING:
    import torch

_ALIGNMENT = 8
_KEPT = 64 << 20  # bytes up to which memory is kept, whatever is asked for


class Spec(NamedTuple):
    """What a tensor will be: dtype as in the header of the file, shape."""

    dtype: str
    shape: tuple[int, ...]


def raw(tensor: torch.Tensor) -> memoryview:
    """The bytes of a contiguous tensor, not copied."""
    import torch

    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy().data)


class TensorFile:
    """A new safetensors file whose tensors are known beforehand by name, dtype and shape, and come one by one.

    As a context manager it leaves a whole file, or none when the block raises or calls `discard`.
    """

    def __init__(self, path: Path, specs: Mapping[str, Spec], metadata: Mapping[str, str] | None = None) -> None:
        self.path = path
        head: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
        self._places: dict[str, int] = {}
        at = 0
        # widest entries first, so that every tensor begins at a multiple of its own width
        for name, spec in sorted(specs.items(), key=lambda item: -DTYPES[item[1].dtype][1]):
            size = DTYPES[spec.dtype][1]
            for extent in spec.shape:
                size *= extent
            head[name] = {"dtype": spec.dtype, "shape": list(spec.shape), "data_offsets": [at, at + size]}
            self._places[name] = at
            at += size
        text = json.dumps(head).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        self._begin = 8 + len(text)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            write_at(self._fd, memoryview(len(text).to_bytes(8, "little") + text), 0)
            os.ftruncate(self._fd, self._begin + at)
        except OSError:
            self.discard()
            raise

    def put(self, name: str, tensor: torch.Tensor) -> None:
        """Write a tensor at its place. Raises OSError when that cannot be done."""
        write_at(self._fd, raw(tensor), self._begin + self._places[name])

    def discard(self) -> None:
        """Leave no file."""
        self._close()
        self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is not None:
            self.discard()
        self._close()


def write_at(fd: int, data: memoryview, offset: int) -> None:
    """All of `data` at a place of the file. Raises OSError."""
    while data:
        sent = os.pwrite(fd, data[: 1 << 24], offset)
        data, offset = data[sent:], offset + sent


class Behind:
    """Does calls in order in a thread of its own, while the caller goes on; at most `most` are not done, so memory stays
    bounded."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._calls: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._room = threading.Semaphore(most)
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="behind", daemon=True)
        self._thread.start()

    def do(self, call: Callable[[], None]) -> None:
        """Waits until there is room. Raises what an earlier call raised."""
        self._room.acquire()
        if self._fault is not None:
            self._room.release()
            raise self._fault
        self._calls.put(call)

    def drain(self) -> None:
        """Wait until nothing is left undone. For the thread that calls `do`."""
        for _ in range(self._most):
            self._room.acquire()
        self._room.release(self._most)

    def finish(self) -> None:
        """Wait until everything is done. Raises what a call raised."""
        if self._thread.is_alive():
            self._calls.put(None)
            self._thread.join()
        if self._fault is not None:
            raise self._fault

    def stop(self) -> None:
        """End the thread; what waits is left undone."""
        self._fault = self._fault or RuntimeError("stopped")
        with suppress(BaseException):
            self.finish()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            if self._fault is None:
                try:
                    call()
                except BaseException as error:  # told to the caller at its next turn
                    self._fault = error
            del call  # with what it holds, before there is room for another
            self._room.release()


class Buffers:
    """Memory that is used again, in turns: the one given out is the caller's until `count` more have been asked for. New memory
    costs more than what is done with it, since the kernel zeroes every page.

    For what comes largest first: one that is much too large for what is asked for now is given back.
    """

    def __init__(self, count: int) -> None:
        self._held = [memoryview(b"")] * count
        self._next = 0

    def take(self, size: int) -> memoryview:
        """So many bytes, whatever is in them."""
        held = self._held[self._next]
        if not size <= len(held) <= max(_KEPT, 2 * size):
            held = self._held[self._next] = memoryview(b"")  # before there is new memory
            held = self._held[self._next] = fresh(size)
        self._next = (self._next + 1) % len(self._held)
        return held[:size]


def fresh(size: int) -> memoryview:
    """New memory; numpy asks for huge pages, which spares a page fault per 4 KB."""
    import numpy

    return numpy.empty(size, numpy.uint8).data.cast("B")
