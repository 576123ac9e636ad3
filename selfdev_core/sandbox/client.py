"""The trusted side of the sandbox: starts the warm worker, sends programs, keeps the deadline, checks what comes back."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

from selfdev_core.errors import SelfdevError
from selfdev_core.records import Reason
from selfdev_core.sandbox.bundle import Bundle
from selfdev_core.sandbox.wire import FrameReader, WireError, encode, recv_frame

if TYPE_CHECKING:
    import torch

_REASONS = frozenset(get_args(Reason))
_START_SECONDS = 120.0
_GRACE_SECONDS = 5.0


class SandboxError(SelfdevError):
    """The warm worker could not be started or died. No program's fault."""


class Run(NamedTuple):
    """What one run gave: `reason` "accepted" with one float32 tensor per parameter, or a named reason and no tensors."""

    reason: Reason
    detail: str
    tensors: dict[str, torch.Tensor]


class Sandbox:
    """One warm worker over named bundles. Thread-safe: several threads may run programs at once."""

    def __init__(self, bundles: dict[str, Bundle], seconds: float, memory_gb: float) -> None:
        self.bundles = bundles
        self.seconds = seconds
        self.memory_bytes = int(memory_gb * 2**30)
        self._jobs = count(1)
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker and every program it still runs."""
        with self._lock:
            self._stop()

    def run(self, source: str, bundle: str) -> Run:
        """Run one program over every parameter of the named bundle.

        Raises: SandboxError when the worker cannot be (re)started.
        """
        outcome = self._run_once(source, bundle)
        if outcome is None:
            # Perhaps another program killed the worker. Alone in a worker of its own, this one shows who it was.
            with Sandbox(self.bundles, self.seconds, self.memory_bytes / 2**30) as alone:
                outcome = alone._run_once(source, bundle)
        return outcome or Run("crashed", "the sandbox worker dies when this program runs", {})

    def _run_once(self, source: str, bundle: str) -> Run | None:
        """None when the worker died under the program."""
        result_read, result_write = os.pipe()
        status_read, status_write = os.pipe()
        try:
            try:
                job, worker = self._send(source, bundle, result_write, status_write)
            finally:
                os.close(result_write)
                os.close(status_write)
            return self._collect(job, worker, self.bundles[bundle], result_read, status_read)
        finally:
            os.close(result_read)
            os.close(status_read)

    def _send(
        self, source: str, bundle: str, result_fd: int, status_fd: int
    ) -> tuple[int, subprocess.Popen[bytes] | None]:
        """The job's number and the worker that has it."""
        text = source.encode("utf-8", "surrogatepass")
        job = next(self._jobs)
        frame = {
            "job": job,
            "bundle": bundle,
            "source_bytes": len(text),
            "limits": {"seconds": self.seconds, "memory_bytes": self.memory_bytes},
        }
        with self._lock:
            for attempt in (1, 2):
                control = self._started()
                try:
                    socket.send_fds(control, [b"R"], [result_fd, status_fd])
                    control.sendall(encode(frame) + text)
                    return job, self._process
                except (BrokenPipeError, ConnectionError):
                    self._stop()
                    if attempt == 2:
                        raise SandboxError("the sandbox worker died twice in a row; see its messages above") from None
        raise AssertionError("unreachable")

    def _kill(self, job: int) -> None:
        with self._lock:
            if self._control is not None:
                try:
                    self._control.sendall(b"K" + encode({"job": job}))
                except (BrokenPipeError, ConnectionError):
                    self._stop()

    def _abandon(self, worker: subprocess.Popen[bytes] | None) -> None:
        """End a worker that no longer does what it is told (stopped by a program, say); the next run starts another."""
        with self._lock:
            if worker is not None and worker is self._process:
                worker.kill()
                self._stop()

    def _collect(
        self, job: int, worker: subprocess.Popen[bytes] | None, bundle: Bundle, result_fd: int, status_fd: int
    ) -> Run | None:
        """Read frames until both pipes are at their end; kill at the deadline or at the first malformed frame."""
        expected = sum(4 * _numel(shape) + 4096 for shape in bundle.shapes.values()) + 65536
        reader = FrameReader(expected)
        received = _Received(bundle)
        status = bytearray()
        deadline = time.monotonic() + self.seconds
        open_fds = {result_fd, status_fd}
        events = select.poll()
        for fd in open_fds:
            events.register(fd, select.POLLIN)
        fault: tuple[Reason, str] | None = None
        while open_fds:
            left = deadline - time.monotonic()
            if left <= 0 and fault is None:
                fault = ("time-limit", f"runs longer than {self.seconds:g} s")
                self._kill(job)
            if left < -_GRACE_SECONDS:
                self._abandon(worker)
                break
            ready = events.poll(max(left, 0.0) * 1000 if fault is None else 1000)
            for fd, _ in ready:
                data = os.read(fd, 1 << 20)
                if not data:
                    open_fds.discard(fd)
                    events.unregister(fd)
                elif fd == status_fd:
                    status += data
                elif fault is None:
                    try:
                        for header, body in reader.feed(data):
                            received.take(header, body)
                    except WireError as error:
                        fault = ("no-result", str(error))
                        self._kill(job)
            if status_fd not in open_fds and ready == []:
                break
        if fault is not None:
            return Run(fault[0], _readable(fault[1]), {})
        return received.outcome(json.loads(status[4:])["exit"]) if status else received.accepted()

    def _started(self) -> socket.socket:
        if self._control is not None and self._process is not None and self._process.poll() is None:
            return self._control
        self._stop()
        ours, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-s", "-m", "selfdev_core.sandbox.zygote", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"},
            cwd="/",
            start_new_session=True,
        )
        theirs.close()
        ours.settimeout(_START_SECONDS)
        try:
            ours.sendall(encode({"bundles": {name: str(Path(b.path).resolve()) for name, b in self.bundles.items()}}))
            recv_frame(ours)
        except (OSError, EOFError) as error:
            self._process.kill()
            self._process.wait()
            raise SandboxError(f"the sandbox worker did not start: {error}") from error
        ours.settimeout(None)
        self._control = ours
        return ours

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


class _Received:
    """Checks each frame against the bundle: the right parameter, in order, with the right shape, dtype and size."""

    def __init__(self, bundle: Bundle) -> None:
        self._waiting = list(bundle.shapes.items())[::-1]
        self._tensors: dict[str, torch.Tensor] = {}
        self._end: tuple[Reason, str] | None = None

    def take(self, header: dict[str, Any], body: bytearray) -> None:
        import torch

        if self._end is not None:
            raise WireError("sends on after its end")
        if "end" in header:
            reason, detail = header["end"], header.get("detail")
            if not isinstance(reason, str) or reason not in _REASONS or not isinstance(detail, str):
                raise WireError("ends without a proper verdict")
            if reason == "accepted" and self._waiting:
                raise WireError("ends before its last tensor")
            self._end = (cast("Reason", reason), _readable(detail))
            return
        if not self._waiting:
            raise WireError("sends more tensors than asked for")
        name, shape = self._waiting.pop()
        expected = {"name": name, "shape": list(shape), "dtype": "float32", "bytes": 4 * _numel(shape)}
        if header != expected:
            raise WireError(f"sends {str(header)[:120]} where {name} was due")
        tensor = torch.frombuffer(body, dtype=torch.float32).reshape(shape)
        if not bool(torch.isfinite(tensor).all()):
            self._end = ("not-finite", f"returns NaN or infinity (on {name})")
            return
        self._tensors[name] = tensor

    def accepted(self) -> Run | None:
        """The result if it is complete and accepted."""
        return Run("accepted", "", self._tensors) if self._end is not None and self._end[0] == "accepted" else None

    def outcome(self, exit_code: int) -> Run:
        """The verdict of a program whose process has ended (negative code: killed by that signal)."""
        if (done := self.accepted()) is not None:
            return done
        if self._end is not None:
            return Run(*self._end, {})
        if exit_code == -signal.SIGXCPU:
            return Run("time-limit", "uses too much CPU time", {})
        if exit_code == -signal.SIGXFSZ:
            return Run("exception", "writes to a file", {})
        if exit_code < 0:
            return Run("crashed", f"its process died of signal {-exit_code}", {})
        return Run("exited", f"its process ended with status {exit_code} before a result", {})


def _readable(detail: str) -> str:
    """Text that any record can hold: short, and without lone surrogates."""
    return detail[:400].encode("utf-8", "replace").decode()


def _numel(shape: tuple[int, ...]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size
