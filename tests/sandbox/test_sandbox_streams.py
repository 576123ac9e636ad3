"""A program that writes the result stream itself gets a verdict, never a tensor that breaks the contract."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfdev_core.sandbox.bundle import Bundle
from selfdev_core.sandbox.client import Run, Sandbox
from selfdev_core.sandbox.received import Received
from selfdev_core.sandbox.validate import validate
from selfdev_core.sandbox.wire import WireError

AVERAGE = "def merge_models(model_dict, device):\n    return 0.5 * sum(model_dict.values())\n"
Check = Callable[[Run, Bundle], None]

FORGER = """\
import json, os, struct
def frame(header, body=b""):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    os.write(3, struct.pack(">I", len(raw)) + raw + body)
SHAPES = {shapes!r}
def due():
    for name, shape in SHAPES.items():
        size = 4
        for extent in shape:
            size *= extent
        yield {{"name": name, "shape": list(shape), "dtype": "float32", "bytes": size}}
def honest(**changed):
    for head in due():
        head.update(changed)
        frame(head, b"\\0" * head["bytes"])
{body}
os._exit(0)
"""

FORGED = {
    "another shape": "honest(shape=[4, 6])",
    "another name": "honest(name='model.embed_tokens.weight')",
    "another dtype": "honest(dtype='float64')",
    "a shape of floats": "for head in due(): frame(head | {'shape': [*map(float, head['shape'])]}, b'\\0' * head['bytes'])",
    "too few bytes": "honest(bytes=8)",
    "too many bytes": "honest(bytes=8000)",
    "no bytes": "honest(bytes=0)",
    "a promise of terabytes": "frame({'name': next(iter(SHAPES)), 'bytes': 10**12})",
    "a negative size": "frame({'name': 'x', 'bytes': -1})",
    "a size that is no number": "frame({'bytes': 'many'})",
    "a size that is true": "frame({'bytes': True})",
    "a size without end": "frame(b'{\"bytes\": 1e999}')",
    "a header of 4 GB": "os.write(3, b'\\xff' * 4096)",
    "a header that is not JSON": "frame(b'not json at all')",
    "a header that is not UTF-8": "frame(b'\\xff\\xfe\\xfd')",
    "a header that is a list": "frame(b'[1, 2]')",
    "a header nested too deep": "frame(b'[' * 8000)",
    "a number of 5000 digits": "frame(b'{\"bytes\": ' + b'9' * 5000 + b'}')",
    "an end before the tensors": "frame({'end': 'accepted', 'detail': ''})",
    "an end with an unknown reason": "frame({'end': 'excellent', 'detail': ''})",
    "an end that is a list": "frame({'end': [], 'detail': ''})",
    "an end that is an object": "frame({'end': {}, 'detail': ''})",
    "an end without detail": "frame({'end': 'exception'})",
    "a detail with a lone surrogate": "frame({'end': 'exception', 'detail': '\\ud800'})",
    "a name with a lone surrogate": "frame({'name': '\\ud800', 'bytes': 0})",
    "a detail of 8 KB": "frame({'end': 'exception', 'detail': 'x' * 8000})",
    "NaN": "for head in due(): frame(head, struct.pack('<f', float('nan')) * (head['bytes'] // 4))\n"
    "frame({'end': 'accepted', 'detail': ''})",
    "an infinite stream": "while True: os.write(3, b'\\0' * 65536)",
    "an infinite stream of empty frames": "while True: frame({})",
    "half a frame": "os.write(3, b'\\0\\0')",
    "half a tensor": "frame({'name': next(iter(SHAPES)), 'shape': [6, 4], 'dtype': 'float32', 'bytes': 96}, b'\\0')",
    "the tensors and no end": "honest()",
    "the tensors twice": "honest(); honest()",
    "a closed pipe": "os.close(3)",
    "nothing": "pass",
}  # fmt: skip


def _forger(bundle: Bundle, body: str) -> str:
    return FORGER.format(shapes=dict(bundle.shapes), body=body)


@pytest.mark.usefixtures("healthy")
@pytest.mark.parametrize("what", FORGED)
def test_a_forged_stream_with(what: str, sandbox: Sandbox, bundle: Bundle, assert_keeps_the_contract: Check) -> None:
    run = sandbox.run(_forger(bundle, FORGED[what]), "probes")
    assert run.reason != "accepted", run
    assert_keeps_the_contract(run, bundle)
    assert len(run.detail) <= 400


@pytest.mark.parametrize(
    "more", ["", "honest()", "frame({'end': 'exception', 'detail': ''})", "os.write(3, b'\\xff' * 99999)"]
)
def test_a_forged_stream_that_keeps_the_contract_is_a_result_whatever_is_sent_after_its_end(
    more: str, sandbox: Sandbox, bundle: Bundle, assert_keeps_the_contract: Check
) -> None:
    run = sandbox.run(_forger(bundle, f"honest(); frame({{'end': 'accepted', 'detail': ''}}); {more}"), "probes")
    assert run.reason == "accepted"
    assert_keeps_the_contract(run, bundle)


def test_a_forged_detail_still_makes_a_verdict_that_can_be_stored(sandbox: Sandbox, bundle: Bundle) -> None:
    for what in ("a detail with a lone surrogate", "a name with a lone surrogate"):
        hidden = "json, os, struct = (__import__(m) for m in ('json', 'os', 'struct'))"
        source = _forger(bundle, FORGED[what]).replace("import json, os, struct", hidden)
        source += "\ndef merge_models(model_dict, device): pass\n"
        verdict = validate("a-0", source, sandbox)
        assert not verdict.accepted
        type(verdict).model_validate_json(verdict.model_dump_json())


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
_size = 6 * 4 * 4
_headers = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["w"]) | _values,
        "shape": st.just([6, 4]) | _values,
        "dtype": st.just("float32") | _values,
        "bytes": st.sampled_from([_size, 0, 1]) | _values,
        "end": st.sampled_from(["accepted", "exception", "time-limit"]) | _values,
        "detail": st.text(max_size=10) | _values,
    },
)  # fmt: skip


def _frame(header: object, body: bytes) -> bytes:
    raw = json.dumps(header).encode()
    return struct.pack(">I", len(raw)) + raw + body


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(_headers, st.sampled_from([b"", b"\0" * _size, b"\xff" * _size])), max_size=4),
    st.integers(1, 64),
)
def test_no_sequence_of_frames_breaks_the_contract(
    assert_keeps_the_contract: Check, frames: list[tuple[dict[str, object], bytes]], piece: int
) -> None:
    bundle = Bundle(Path("unused"), ("alpha",), {"w": (6, 4)}, 1)
    received, run = Received(bundle), None
    stream = b"".join(_frame(header, body) for header, body in frames)
    try:
        for start in range(0, len(stream), piece):
            run = run or received.feed(stream[start : start + piece])
    except WireError:
        return
    assert_keeps_the_contract(run or received.cut_off(0), bundle)


@pytest.mark.parametrize("slow", ["memory", "put"])
def test_the_time_that_a_sink_takes_is_no_fault_of_the_program(
    bundle: Bundle, slow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow:
        def begin(self) -> None:
            pass

        def memory(self, size: int) -> memoryview:
            time.sleep(0.8 * (slow == "memory"))
            asked.append(size)
            return memoryview(bytearray(size))

        def put(self, name: str, tensor: object) -> None:
            time.sleep(0.8 * (slow == "put"))
            names.append(name)

    names: list[str] = []
    asked: list[int] = []
    monkeypatch.setattr("selfdev_core.sandbox.wire._LONG", 1)
    monkeypatch.setattr("selfdev_core.sandbox.client._PIECE_BYTES", 16)  # so that no tensor comes whole with its header
    with Sandbox({"full": bundle}, 1.0, 1.0) as sandbox:
        assert sandbox.run(AVERAGE, "full", sink=Slow()).reason == "accepted"
    assert names == list(bundle.shapes) and len(asked) > 1


def test_a_sink_that_fails_before_the_first_tensor_ends_the_program(sandbox: Sandbox) -> None:
    """As the disk's fault of an earlier run does, told at the beginning of the next one."""

    class Full:
        def begin(self) -> None:
            raise OSError("full")

        def memory(self, size: int) -> memoryview:
            raise AssertionError

        def put(self, name: str, tensor: object) -> None:
            raise AssertionError

    assert sandbox.run(AVERAGE, "probes").reason == "accepted"
    idle = _processes(sandbox)
    with pytest.raises(OSError, match="full"):
        sandbox.run("def merge_models(m, device):\n    while True:\n        pass\n", "probes", sink=Full())
    assert (
        sandbox.run(AVERAGE, "probes").reason == "accepted"
    )  # the worker takes one after the other: the first has begun
    deadline = time.monotonic() + 10
    while not _processes(sandbox) <= idle:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _processes(sandbox: Sandbox) -> set[int]:
    assert sandbox._worker is not None
    return {child.pid for child in psutil.Process(sandbox._worker.process.pid).children(recursive=True)}
