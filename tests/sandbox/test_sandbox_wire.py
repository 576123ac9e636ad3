"""The wire format: any bytes at all give frames within the limit, or a WireError."""

from __future__ import annotations

import os
import socket
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfdev_core.sandbox.wire import FrameReader, WireError, encode, recv_exactly, recv_frame, write_all

_headers = st.dictionaries(
    st.text(max_size=8).filter(lambda key: key != "bytes"), st.integers() | st.text(max_size=8), max_size=4
)
_frames = st.lists(st.tuples(_headers, st.binary(max_size=200)), max_size=6)


def _stream(frames: list[tuple[dict[str, object], bytes]]) -> bytes:
    return b"".join(encode({**header, "bytes": len(body)}) + body for header, body in frames)


@settings(max_examples=100, deadline=None)
@given(_frames, st.integers(1, 50))
def test_frames_come_back_however_the_stream_is_cut(frames: list[tuple[dict[str, object], bytes]], piece: int) -> None:
    stream = _stream(frames)
    reader = FrameReader(len(stream))
    found = []
    for start in range(0, len(stream), piece):
        found += reader.feed(stream[start : start + piece])
    assert [({k: v for k, v in header.items() if k != "bytes"}, bytes(body)) for header, body in found] == frames


@settings(max_examples=250, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 300), st.integers(1, 50))
def test_any_bytes_give_frames_within_the_limit_or_a_wire_error(stream: bytes, limit: int, piece: int) -> None:
    _feed(stream, limit, piece)


@settings(max_examples=150, deadline=None)
@given(_frames, st.data())
def test_a_damaged_stream_gives_frames_within_the_limit_or_a_wire_error(
    frames: list[tuple[dict[str, object], bytes]], data: st.DataObject
) -> None:
    stream = bytearray(_stream(frames) or b"\0")
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    _feed(bytes(stream), data.draw(st.integers(0, 2 * len(stream))), data.draw(st.integers(1, 50)))


def _feed(stream: bytes, limit: int, piece: int) -> None:
    reader, seen = FrameReader(limit), 0
    try:
        for start in range(0, len(stream), piece):
            for header, body in reader.feed(stream[start : start + piece]):
                assert isinstance(header, dict)
                seen += 4 + len(body)
    except WireError:
        pass
    assert seen <= limit


def test_control_frames_cross_a_socket_and_a_lost_side_is_noticed() -> None:
    ours, theirs = socket.socketpair()
    sender = threading.Thread(target=lambda: (theirs.sendall(encode({"a": [1, "é"]})), theirs.close()))
    sender.start()
    assert recv_frame(ours) == {"a": [1, "é"]}
    with pytest.raises(EOFError):
        recv_exactly(ours, 1)
    sender.join()
    ours.close()


def test_a_control_frame_that_is_too_long_or_no_object_is_refused() -> None:
    for message in (b"\xff\xff\xff\xff", b"\0\0\0\x02[]"):
        ours, theirs = socket.socketpair()
        theirs.sendall(message)
        with pytest.raises(WireError):
            recv_frame(ours)
        ours.close()
        theirs.close()


def test_write_all_writes_all_through_a_narrow_pipe() -> None:
    read, write = os.pipe()
    data = os.urandom(300_000)
    writer = threading.Thread(target=lambda: (write_all(write, data), os.close(write)))
    writer.start()
    found = bytearray()
    while part := os.read(read, 4096):
        found += part
    writer.join()
    os.close(read)
    assert bytes(found) == data
