"""The wire format between the sandbox and the trusted side: framed JSON headers and raw float32 buffers. Never pickle.

Control frames (trusted side ↔ zygote): 4 bytes length, big-endian, then UTF-8 JSON.
Result stream (program → trusted side): frames of 4 bytes header length, JSON header, then `bytes` raw bytes.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from selfdev_core.tensors.written import fresh

MAX_HEADER = 8192
_LONG = 1 << 18
_LENGTH = struct.Struct(">I")


class WireError(Exception):
    """The stream does not follow the format."""


def encode(header: dict[str, Any]) -> bytes:
    body = json.dumps(header).encode()
    return _LENGTH.pack(len(body)) + body


def write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(fd, view) :]


def write_frame(fd: int, header: dict[str, Any], body: memoryview) -> None:
    """Header and body with one call where the pipe takes them: the reader wakes once."""
    head = encode(header)
    sent = os.writev(fd, [head, body]) - len(head)
    write_all(fd, head[len(head) + sent :] if sent < 0 else b"")
    write_all(fd, body[max(0, sent) :])


def recv_exactly(sock: socket.socket, size: int) -> bytes:
    """Raises EOFError when the other side is gone."""
    parts = bytearray()
    while len(parts) < size:
        part = sock.recv(size - len(parts))
        if not part:
            raise EOFError("the other side closed the connection")
        parts += part
    return bytes(parts)


def recv_frame(sock: socket.socket, limit: int = 1 << 24) -> dict[str, Any]:
    (size,) = _LENGTH.unpack(recv_exactly(sock, _LENGTH.size))
    if size > limit:
        raise WireError(f"control frame of {size} bytes")
    try:
        frame = json.loads(recv_exactly(sock, size))
    except (ValueError, RecursionError):
        raise WireError("control frame is not JSON") from None
    if not isinstance(frame, dict):
        raise WireError("control frame is not an object")
    return frame


def read_frame(file: BinaryIO) -> dict[str, Any]:
    """One control frame from a file of the trusted side."""
    (size,) = _LENGTH.unpack(file.read(_LENGTH.size))
    frame: dict[str, Any] = json.loads(file.read(size))
    return frame


class FrameReader:
    """Cuts a result stream into (header, payload) frames. Raises WireError on anything out of form or over `limit` bytes.

    `announced` is shown each header before its payload comes, and may raise WireError. Where there is one, a long payload
    is read straight into memory that `memory` gives: `room` says where the next bytes belong, `took` how many came.
    """

    def __init__(
        self,
        limit: int,
        announced: Callable[[dict[str, Any]], None] | None = None,
        memory: Callable[[int], memoryview] = fresh,
    ) -> None:
        self._buffer = bytearray()
        self._left = limit
        self._announced, self._memory = announced, memory
        self._header: dict[str, Any] | None = None  # of the frame whose payload is not complete
        self._size = 0
        self._body: memoryview | None = None  # of a long payload
        self._there = 0

    def feed(self, data: bytes | memoryview) -> Iterator[tuple[dict[str, Any], bytearray | memoryview]]:
        """Frames that are complete now. What follows one is looked at when the next one is asked for."""
        self._buffer += data[: self._left]
        over = len(data) > self._left
        self._left -= min(self._left, len(data))
        while (frame := self._next()) is not None:
            yield frame
        if over:
            raise WireError("sends more than the expected tensors hold")

    def room(self) -> memoryview | None:
        """Where the rest of a long payload belongs; None when bytes go to `feed`."""
        return None if self._body is None else self._body[self._there :]

    def took(self, count: int) -> Iterator[tuple[dict[str, Any], bytearray | memoryview]]:
        """So many bytes of the stream were put into `room`."""
        self._there += count
        self._left -= count
        return self.feed(b"")

    def _next(self) -> tuple[dict[str, Any], bytearray | memoryview] | None:
        if self._header is None and not self._begin():
            return None
        assert self._header is not None
        if self._body is not None:
            part = self._buffer[: self._size - self._there]
            self._body[self._there : self._there + len(part)] = part
            del self._buffer[: len(part)]
            self._there += len(part)
            if self._there < self._size:
                return None
            header, body, self._header, self._body = self._header, self._body, None, None
            return header, body
        if len(self._buffer) < self._size:
            return None
        header, self._header = self._header, None
        short = self._buffer[: self._size]
        del self._buffer[: self._size]
        return header, short

    def _begin(self) -> bool:
        """Read the header of the next frame; whether it is there."""
        if len(self._buffer) < _LENGTH.size:
            return False
        (size,) = _LENGTH.unpack_from(self._buffer)
        if size > MAX_HEADER:
            raise WireError("header too long")
        start = _LENGTH.size + size
        if len(self._buffer) < start:
            return False
        try:
            header = json.loads(self._buffer[_LENGTH.size : start].decode())
        except (UnicodeDecodeError, ValueError, RecursionError):
            raise WireError("header is not JSON") from None
        if not isinstance(header, dict):
            raise WireError("header is not an object")
        payload = header.get("bytes", 0)
        if type(payload) is not int or payload < 0:
            raise WireError("header has no proper size")
        if self._announced is not None:
            self._announced(header)
        del self._buffer[:start]
        self._header, self._size, self._there = header, payload, 0
        waiting = payload - len(self._buffer)
        if self._announced is not None and _LONG <= waiting <= self._left:
            self._body = self._memory(payload)
        return True
