"""The trusted side of the sandbox: has a warm worker, sends programs, keeps the deadline, checks what comes back.

`Sandbox(bundles, seconds, memory_gb, level="auto")`: `level` is "strict", "standard", "process", or "auto" for the best
that the machine gives; `sandbox.level` names the granted one. `layers.available()` says what this machine can give.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from itertools import count
from typing import Literal

from selfdev_core.records import Level, Reason
from selfdev_core.sandbox import layers
from selfdev_core.sandbox.bundle import Bundle, is_big
from selfdev_core.sandbox.layers import SandboxError
from selfdev_core.sandbox.received import Received, Refused, Run, Sink, died_of, readable
from selfdev_core.sandbox.wire import WireError, encode
from selfdev_core.sandbox.worker import Worker

__all__ = ["Given", "Run", "Sandbox", "SandboxError"]

# What a program is given: the bundle's task vectors; zeros in their place; zeros, and each parameter under the name of
# another one of its shape. The last two serve the checks in `flags.py`.
Given = Literal["real", "zeros", "zeros-renamed"]

PROBE_SECONDS = 60.0  # probes are small however large the models are: a program that hangs must not hang for hours
_GRACE_SECONDS = 0.4
_PIPE_BYTES, _PIECE_BYTES = 1 << 20, 1 << 18


class Sandbox:
    """One warm worker over named bundles. Thread-safe: several threads may run programs at once.

    `seconds` bounds one run over a whole bundle (from the sending of the program to its last tensor, without the time that
    the caller's sink takes); a run over a bundle named `probes` gets no more than 60 of them. `worker`: one that
    is loading already, whose level counts then; the sandbox ends it.

    Raises: SandboxError when the machine gives no level at all; a level that is asked for and not to be had shows at the
    first run.
    """

    def __init__(
        self,
        bundles: dict[str, Bundle],
        seconds: float,
        memory_gb: float,
        *,
        level: Level | Literal["auto"] = "auto",
        worker: Worker | None = None,
    ) -> None:
        self.bundles = bundles
        self.seconds = seconds
        self.memory_bytes = int(memory_gb * 2**30)
        if worker is not None:
            level = worker.level
        self.level: Level = layers.grant("process") if level == "auto" else level
        self._jobs = count(1)
        self._lock = threading.Lock()
        self._worker = worker

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def warm(self) -> None:
        """Start the worker without waiting for it: the first run finds it ready, or is told why it did not start."""
        with self._lock:
            self._current()

    def close(self) -> None:
        """End the worker and every program it still runs."""
        with self._lock:
            self._stop()

    def run(self, source: str, bundle: str, given: Given = "real", sink: Sink | None = None) -> Run:
        """Run one program over every parameter of the named bundle; a sink takes the tensors as they come.

        Raises: SandboxError when the worker cannot be (re)started; what the sink raises.
        """
        before = self._oom_kills()
        outcome = self._run_once(source, bundle, given, sink)
        if outcome is not None and outcome.reason == "crashed" and outcome.detail == died_of(signal.SIGKILL):
            # The program's own doing, or somebody's (a machine out of memory, say): the second run shows which.
            outcome = self._run_once(source, bundle, given, sink)
        crowded = outcome is not None and outcome.reason == "crashed" and self._oom_kills() > before
        if outcome is None or crowded:
            # Another program may have killed the worker, or taken the memory. Alone in a worker of its own, this one shows
            # whose doing it was.
            with Sandbox(self.bundles, self.seconds, self.memory_bytes / 2**30, level=self.level) as alone:
                outcome = alone._run_once(source, bundle, given, sink)
        return outcome or Run("crashed", "the sandbox worker dies when this program runs", {})

    def _oom_kills(self) -> int:
        worker = self._worker
        group = None if worker is None else worker.group
        return 0 if group is None else group.oom_kills()

    def _seconds(self, bundle: str) -> float:
        return min(self.seconds, PROBE_SECONDS) if bundle == "probes" else self.seconds

    def _run_once(self, source: str, bundle: str, given: Given, sink: Sink | None) -> Run | None:
        """None when the worker died under the program."""
        result_read, result_write = os.pipe()
        status_read, status_write = os.pipe()
        try:
            try:
                _widen(result_read)
                job, worker = self._send(source, bundle, given, result_write, status_write)
            finally:
                os.close(result_write)
                os.close(status_write)
            try:
                received = Received(self.bundles[bundle], sink)
                return self._collect(job, worker, received, self._seconds(bundle), result_read, status_read)
            except BaseException:  # the sink's
                self._kill(job)
                raise
        finally:
            os.close(result_read)
            os.close(status_read)

    def _send(self, source: str, bundle: str, given: Given, result_fd: int, status_fd: int) -> tuple[int, Worker]:
        """The job's number and the worker that has it."""
        text = source.encode("utf-8", "surrogatepass")
        job = next(self._jobs)
        frame = {
            "job": job,
            "bundle": bundle,
            "given": given,
            "source_bytes": len(text),
            "seconds": self._seconds(bundle),
            "memory_bytes": self.memory_bytes,
        }
        with self._lock:
            for attempt in (1, 2):
                worker = self._started()
                try:
                    socket.send_fds(worker.control, [b"R"], [result_fd, status_fd])
                    worker.control.sendall(encode(frame) + text)
                    return job, worker
                except (BrokenPipeError, ConnectionError):
                    self._stop()
                    if attempt == 2:
                        raise SandboxError("the sandbox worker died twice in a row; see its messages above") from None
        raise AssertionError("unreachable")

    def _kill(self, job: int) -> None:
        with self._lock:
            if self._worker is not None:
                try:
                    self._worker.control.sendall(b"K" + encode({"job": job}))
                except (BrokenPipeError, ConnectionError):
                    self._stop()

    def _abandon(self, worker: Worker) -> None:
        """End a worker that no longer does what it is told (stopped by a program, say); the next run starts another."""
        with self._lock:
            if worker is self._worker:
                worker.process.kill()
                self._stop()

    def _collect(
        self,
        job: int,
        worker: Worker,
        received: Received,
        seconds: float,
        result_fd: int,
        status_fd: int,
    ) -> Run | None:
        """Read frames until the stream ends, or both pipes do; kill at the deadline or at the first malformed frame.

        Nothing of the program is waited for after its last frame: its process is ended while the caller goes on.
        """
        status = bytearray()
        piece = memoryview(bytearray(_PIECE_BYTES))
        began = time.monotonic()
        open_fds = {result_fd, status_fd}
        events = select.poll()
        for fd in open_fds:
            events.register(fd, select.POLLIN)
        fault: tuple[Reason, str] | None = None
        give_up = 0.0
        while open_fds:
            now = time.monotonic()
            deadline = began + seconds + received.waited
            if now >= deadline and fault is None:
                fault = ("time-limit", f"runs longer than {seconds:g} s")
                give_up = now + _GRACE_SECONDS
                self._kill(job)
            if fault is not None and now >= give_up:
                self._abandon(worker)
                break
            until = deadline if fault is None else give_up
            for fd, _ in events.poll(max(0.0, until - now) * 1000 + 1):
                room = received.room() if fd == result_fd and fault is None else None
                count = os.readv(fd, [piece if room is None else room])
                if not count:
                    open_fds.discard(fd)
                    events.unregister(fd)
                elif fd == status_fd:
                    status += piece[:count]
                elif fault is None:
                    try:
                        run = received.feed(piece[:count]) if room is None else received.took(count)
                    except WireError as error:
                        fault = (error.reason if isinstance(error, Refused) else "no-result", str(error))
                        give_up = time.monotonic() + _GRACE_SECONDS
                        self._kill(job)
                        continue
                    if run is not None:
                        self._kill(job)
                        return run
        if fault is not None:
            return Run(fault[0], readable(fault[1]), {})
        return received.cut_off(json.loads(status[4:])["exit"]) if status else None

    def _started(self) -> Worker:
        worker = self._current()
        try:
            worker.wait()
        except BaseException:
            self._stop()
            raise
        return worker

    def _current(self) -> Worker:
        """The worker, perhaps loading still; a new one where there is none or it has ended."""
        if self._worker is None or not self._worker.alive():
            self._stop()
            self._worker = Worker(
                self.level, keep_memory=any(is_big(one.shapes, one.experts) for one in self.bundles.values())
            )
        self._worker.tell(self.bundles)
        return self._worker

    def _stop(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None


def _widen(pipe: int) -> None:
    """Let a pipe hold a megabyte where the system allows it: fewer turns between program and trusted side."""
    if sys.platform == "linux":
        import fcntl

        with suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
