"""The wire format between the sandbox and the trusted side: framed JSON headers and raw float32 buffers. Never pickle.

Control frames (trusted side ↔ zygote): 4 bytes length, big-endian, then UTF-8 JSON.
Result stream (program → trusted side): frames of 4 bytes header length, JSON header, then `bytes` raw bytes.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

MAX_HEADER = 8192
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
    """Cuts a result stream into (header, payload) frames. Raises WireError on anything out of form or over `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._buffer = bytearray()
        self._left = limit

    def feed(self, data: bytes | memoryview) -> Iterator[tuple[dict[str, Any], bytearray]]:
        """Frames that are complete now. What follows one is looked at when the next one is asked for."""
        self._buffer += data[: self._left]
        over = len(data) > self._left
        self._left -= min(self._left, len(data))
        while (frame := self._next()) is not None:
            yield frame
        if over:
            raise WireError("sends more than the expected tensors hold")

    def _next(self) -> tuple[dict[str, Any], bytearray] | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        (size,) = _LENGTH.unpack_from(self._buffer)
        if size > MAX_HEADER:
            raise WireError("header too long")
        start = _LENGTH.size + size
        if len(self._buffer) < start:
            return None
        try:
            header = json.loads(self._buffer[_LENGTH.size : start].decode())
        except (UnicodeDecodeError, ValueError, RecursionError):
            raise WireError("header is not JSON") from None
        if not isinstance(header, dict):
            raise WireError("header is not an object")
        payload = header.get("bytes", 0)
        if type(payload) is not int or payload < 0:
            raise WireError("header has no proper size")
        if len(self._buffer) < start + payload:
            return None
        body = self._buffer[start : start + payload]
        del self._buffer[: start + payload]
        return header, body
