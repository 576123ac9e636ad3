"""The warm worker's process, as the trusted side holds it: started, told its bundles, waited for, ended."""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

from selfdev_core.records import Level
from selfdev_core.sandbox import cgroup, start
from selfdev_core.sandbox.bundle import Bundle
from selfdev_core.sandbox.layers import SandboxError
from selfdev_core.sandbox.wire import WireError, encode, recv_frame

_START_SECONDS = 120.0
_END_SECONDS = 5.0


class _Starter:
    """Starts processes in one thread that lasts as long as this process: the kernel ends a worker with the thread that has
    started it (`namespaces.die_with_parent`)."""

    def __init__(self) -> None:
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._asked: queue.SimpleQueue[tuple[Future[subprocess.Popen[bytes]], Callable[[], subprocess.Popen[bytes]]]]
        self._asked = queue.SimpleQueue()

    def start(self, command: list[str], control_fd: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        def popen() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                command,
                pass_fds=(control_fd,),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=environment,
                cwd="/",
                start_new_session=True,
            )

        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="sandbox-start", daemon=True)
                self._thread.start()
        made: Future[subprocess.Popen[bytes]] = Future()
        self._asked.put((made, popen))
        return made.result()

    def _work(self) -> None:
        while True:
            made, popen = self._asked.get()
            try:
                made.set_result(popen())
            except BaseException as error:
                made.set_exception(error)
            del made, popen


_STARTER = _Starter()


class Worker:
    """A process that loads its libraries at once, maps its bundles when it is told them (`tell`), and takes programs over
    `control` when it is ready (`wait`). `keep_memory`: for big tensors, see `start.KEEP_MEMORY`."""

    def __init__(self, level: Level, *, keep_memory: bool) -> None:
        self.level = level
        self._told = self._ready = False
        self.control, theirs = socket.socketpair()
        with theirs:
            self.process = _STARTER.start(
                start.command("selfdev_core.sandbox.zygote", f"{theirs.fileno()}, {level!r}"),
                theirs.fileno(),
                start.ENVIRONMENT | (start.KEEP_MEMORY if keep_memory else {}),
            )
        self.group = cgroup.around(self.process.pid)
        with suppress(OSError):  # dead already
            self.control.sendall(encode({}))  # the group is round it: it may begin, and start processes of its own

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def tell(self, bundles: dict[str, Bundle]) -> None:
        """Have it map the bundles and close its doors, once it has loaded; does not wait for it. Once only."""
        if not self._told:
            self._told = True
            with suppress(OSError):  # it has ended; `wait` hears why
                paths = {name: str(Path(bundle.path).resolve()) for name, bundle in bundles.items()}
                self.control.sendall(encode({"bundles": paths}))

    def wait(self) -> None:
        """Until it is ready. Raises: SandboxError when it is not going to be; it is ended then."""
        if self._ready:
            return
        try:
            self.control.settimeout(_START_SECONDS)
            answer = recv_frame(self.control)
            self.control.settimeout(None)
        except (OSError, EOFError, WireError) as error:
            answer = {"fault": str(error)}
        except BaseException:
            self.close()
            raise
        if "fault" in answer:
            self.close()
            raise SandboxError(f"the sandbox worker did not start at level {self.level}: {answer['fault']}")
        self._ready = True

    def alive(self) -> bool:
        return self.process.poll() is None

    def close(self) -> None:
        """End it and every program that it still runs; a second time changes nothing."""
        self.control.close()
        if not self._ready:  # it may be busy loading
            self.process.kill()
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.group is not None:
            self.group.end()
            self.group = None
