"""The warm worker's process, as the trusted side holds it: started, told its bundles, ended."""

from __future__ import annotations

import socket
import subprocess
from contextlib import suppress
from pathlib import Path

from selfdev_core.records import Level
from selfdev_core.sandbox import cgroup, start
from selfdev_core.sandbox.bundle import Bundle
from selfdev_core.sandbox.layers import SandboxError
from selfdev_core.sandbox.wire import WireError, encode, recv_frame

_START_SECONDS = 120.0
_END_SECONDS = 5.0


class Worker:
    """A process that loads its libraries at once, goes on when it is told its bundles (`open`), and then takes programs over
    `control`. `keep_memory`: for big tensors, see `start.KEEP_MEMORY`."""

    def __init__(self, level: Level, *, keep_memory: bool) -> None:
        self.level = level
        self.control, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                start.command("selfdev_core.sandbox.zygote", f"{theirs.fileno()}, {level!r}"),
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=start.ENVIRONMENT | (start.KEEP_MEMORY if keep_memory else {}),
                cwd="/",
                start_new_session=True,
            )
        self.group = cgroup.around(self.process.pid)
        self._opened = False
        with suppress(OSError):  # dead already: `open` tells it
            self._tell({})  # the group is round it: it may begin, and start processes of its own

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, bundles: dict[str, Bundle]) -> None:
        """Have it map the bundles and close its doors; waits until it is ready. Does nothing a second time.

        Raises: SandboxError when it cannot; it is ended then.
        """
        if self._opened:
            return
        self.control.settimeout(_START_SECONDS)
        try:
            with suppress(BrokenPipeError):  # it has said why it ended
                self._tell({"bundles": {name: str(Path(b.path).resolve()) for name, b in bundles.items()}})
            answer = recv_frame(self.control)
        except (OSError, EOFError, WireError) as error:
            answer = {"fault": str(error)}
        if "fault" in answer:
            self.close()
            raise SandboxError(f"the sandbox worker did not start at level {self.level}: {answer['fault']}")
        self.control.settimeout(None)
        self._opened = True

    def alive(self) -> bool:
        return self.process.poll() is None

    def close(self) -> None:
        """End it and every program that it still runs."""
        self.control.close()
        if not self._opened:  # it is loading still and would not notice
            self.process.kill()
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.group is not None:
            self.group.end()
            self.group = None

    def _tell(self, frame: dict[str, object]) -> None:
        self.control.sendall(encode(frame))
