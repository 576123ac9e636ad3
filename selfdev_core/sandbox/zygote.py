"""The warm worker. Loads torch and maps the bundles once, closes the doors of its level, then forks one child per program.

Started by `worker.Worker` with an environment of its own. It is trusted code, but its memory is what every program
inherits, so it holds nothing but weights of the seed and the experts. What it closes (namespaces, root folder, Landlock,
privileges) is closed for every program at no cost per program; the rest (`doors.shut`) each child closes behind itself.
"""

from __future__ import annotations

import gc
import os
import resource
import selectors
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from selfdev_core.sandbox import doors, pages, probe
from selfdev_core.sandbox.bundle import Bundle, read_bundle
from selfdev_core.sandbox.child import Work, run_and_exit
from selfdev_core.sandbox.vectors import TaskVectors
from selfdev_core.sandbox.warm import load_libraries, warm_up
from selfdev_core.sandbox.wire import encode, recv_exactly, recv_frame, write_all


def main(control_fd: int, level: str) -> None:
    control = socket.socket(fileno=control_fd)
    try:
        if _heard(control) is None:
            return
        doors.leave(level)
        load_libraries()
        warm_up()
        if (told := _heard(control)) is None:
            return
        bundles = {name: read_bundle(Path(path)) for name, path in told["bundles"].items()}
        os.environ.clear()  # thread counts, locale and hash seed have done their work
        gc.collect()
        gc.freeze()
        gc.disable()
        pages.gather()
        prepared = doors.prepare_filter(level)
        mapped = _address_space()
        doors.lock(level)
        _test_the_doors(level, mapped, prepared)
    except Exception as error:
        control.sendall(encode({"fault": f"{type(error).__name__}: {error}"}))
        return
    control.sendall(encode({"ready": True}))
    _Server(control, bundles, mapped, prepared).serve()


def _heard(control: socket.socket) -> dict[str, Any] | None:
    """The next frame; None when the trusted side is gone."""
    try:
        return recv_frame(control)
    except EOFError:
        return None


def _address_space() -> int:
    """Bytes this process has mapped already: libraries and bundles, which are no fault of a program."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _test_the_doors(level: str, mapped: int, prepared: bytes) -> None:
    """Try to get out of the jail as a program would. Raises OSError when something is not refused."""

    def attempt() -> None:
        doors.shut(3, doors.Limits(10.0, mapped + (1 << 30)), prepared)
        (probe.check_jail if prepared else probe.check_single)()

    fault = probe.tried(attempt)
    if fault:
        raise OSError(f"level {level} is not in force: {fault}")


class _Server:
    def __init__(
        self, control: socket.socket, bundles: dict[str, tuple[Bundle, TaskVectors]], mapped: int, prepared: bytes
    ) -> None:
        self.control = control
        self.bundles = bundles
        self.mapped = mapped
        self.prepared = prepared
        self.running: dict[int, tuple[int, int]] = {}  # pid → (job number, status descriptor)

    def serve(self) -> None:
        """Until the trusted side closes the connection; then every program ends."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with selectors.DefaultSelector() as events:
            events.register(self.control, selectors.EVENT_READ)
            events.register(wake_read, selectors.EVENT_READ)
            while True:
                for key, _ in events.select():
                    if key.fileobj is not self.control:
                        os.read(wake_read, 4096)
                        self._reap()
                        continue
                    try:
                        self._handle()
                    except (EOFError, ConnectionError):
                        for pid in self.running:
                            _kill(pid)
                        return

    def _handle(self) -> None:
        marker, fds, _, _ = socket.recv_fds(self.control, 1, 2)
        if not marker:
            raise EOFError
        frame = recv_frame(self.control)
        if marker == b"K":
            for pid, (job, _) in self.running.items():
                if job == frame["job"]:
                    _kill(pid)
            return
        result_fd, status_fd = fds
        source = recv_exactly(self.control, int(frame["source_bytes"])).decode("utf-8", "surrogatepass")
        pid = os.fork()
        if pid == 0:
            self._become(frame, source, result_fd)
        os.close(result_fd)
        self.running[pid] = (int(frame["job"]), status_fd)

    def _become(self, frame: dict[str, Any], source: str, result_fd: int) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        limits = doors.Limits(float(frame["seconds"]), self.mapped + int(frame["memory_bytes"]))
        bundle, vectors = self.bundles[frame["bundle"]]
        run_and_exit(Work(source, bundle, vectors, frame["given"]), result_fd, limits, self.prepared)

    def _reap(self) -> None:
        while self.running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            job = self.running.pop(pid, None)
            if job is None:
                continue
            with suppress(BrokenPipeError):
                write_all(job[1], encode({"exit": os.waitstatus_to_exitcode(status)}))
            os.close(job[1])


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
