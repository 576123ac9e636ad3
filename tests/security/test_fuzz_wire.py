"""Any bytes on the wire give frames within the limit or the named error: no other error, no waiting, no memory."""

from __future__ import annotations

import json
import socket
import struct
import tracemalloc
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfdev_core.records import Level
from selfdev_core.sandbox.client import Sandbox
from selfdev_core.sandbox.received import Received
from selfdev_core.sandbox.wire import MAX_HEADER, FrameReader, WireError, recv_frame
from tests.security.examine import HARMLESS, Setting
from tests.security.levels import LEVELS
from tests.security.world import SHAPES, World

_quick = settings(max_examples=150, deadline=timedelta(seconds=2), suppress_health_check=[HealthCheck.too_slow])

_FIRST = next(iter(SHAPES))
_SIZE = 4 * 16 * 16
_numbers = st.integers() | st.integers(-(2**70), 2**70) | st.floats() | st.booleans()
_junk = st.recursive(
    st.none() | _numbers | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
_heads = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from([*SHAPES, "", "end"]) | _junk,
        "shape": st.sampled_from([list(shape) for shape in SHAPES.values()]) | _junk,
        "dtype": st.just("float32") | _junk,
        "bytes": st.sampled_from([_SIZE, 512, 32, 0, 1, 2**31, 2**63]) | _junk,
        "end": st.sampled_from(["accepted", "exception", "time-limit"]) | _junk,
        "detail": st.text(max_size=10) | _junk,
    },
)
_bodies = st.sampled_from([b"", b"\0" * _SIZE, b"\xff" * _SIZE, b"\0" * 512, b"\0" * 32]) | st.binary(max_size=40)
_lengths = st.none() | st.sampled_from([0, 1, MAX_HEADER, MAX_HEADER + 1, 2**31, 2**32 - 1])
_pieces = st.tuples(_heads, _bodies, _lengths).map(lambda piece: _piece(*piece)) | st.binary(max_size=64)
_streams = st.lists(_pieces, max_size=6).map(b"".join)


def _piece(head: dict[str, object], body: bytes, length: int | None) -> bytes:
    raw = json.dumps(head).encode()
    return struct.pack(">I", len(raw) if length is None else length) + raw + body


@_quick
@given(_streams, st.integers(0, 4096), st.integers(1, 300))
def test_the_reader_gives_frames_within_its_limit_or_a_wire_error(stream: bytes, limit: int, cut: int) -> None:
    reader, seen = FrameReader(limit), 0
    tracemalloc.start()
    try:
        for start in range(0, len(stream), cut):
            for header, body in reader.feed(stream[start : start + cut]):
                assert isinstance(header, dict)
                seen += len(body)
    except WireError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert seen <= limit
    assert peak < 40 * (limit + MAX_HEADER)  # whatever sizes the headers promise


@_quick
@given(_streams, st.integers(1, 2000), st.sampled_from([0, 1, 3, -9, -11, -24, -25]))
def test_the_receiver_gives_a_run_that_keeps_the_contract_or_a_wire_error(
    world: World, stream: bytes, cut: int, code: int
) -> None:
    received, run = Received(world.bundle), None
    try:
        for start in range(0, len(stream), cut):
            run = run or received.feed(stream[start : start + cut])
    except WireError:
        return
    run = run or received.cut_off(code)
    run.detail.encode()
    assert len(run.detail) <= 400
    if run.reason == "accepted":
        assert {name: tuple(tensor.shape) for name, tensor in run.tensors.items()} == SHAPES
        assert all(bool(tensor.isfinite().all()) for tensor in run.tensors.values())
    else:
        assert run.tensors == {}


@_quick
@given(st.binary(max_size=64) | _streams)
def test_the_control_socket_gives_an_object_or_a_named_error(stream: bytes) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(stream)
    theirs.close()
    try:
        assert isinstance(recv_frame(ours, limit=4096), dict)
    except (WireError, EOFError):
        pass
    finally:
        ours.close()


@pytest.mark.parametrize(
    ("level", "examples"), [(LEVELS[0], 40), *(pytest.param(level, 400, marks=pytest.mark.slow) for level in LEVELS)]
)
def test_a_program_may_write_any_bytes_into_its_pipe(
    level: Level, examples: int, jail: Callable[[Level], tuple[Sandbox, Setting]]
) -> None:
    _, setting = jail(level)

    @settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(_streams)
    def write(stream: bytes) -> None:
        run = setting.run(f"import torch\ntorch.os.write(3, {stream!r})\ntorch.os._exit(0)\n", 20.0)
        assert run.reason != "accepted" or {n: tuple(t.shape) for n, t in run.tensors.items()} == SHAPES

    write()
    assert setting.run(HARMLESS, 20.0).reason == "accepted"
    assert _FIRST in setting.right
