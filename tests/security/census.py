"""Which processes descend from this one; orphans come to us instead of to process 1, so that none is lost sight of."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

_PR_SET_CHILD_SUBREAPER = 36
_SETTLED = 0.2  # seconds in which a process that was killed is gone


@contextmanager
def orphans_come_to_us() -> Iterator[None]:
    """Linux only; elsewhere a daemon that leaves its family is not seen."""
    if not sys.platform.startswith("linux"):
        yield
        return
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def descendants() -> set[int]:
    """Process numbers of all that live below this process, less the dead that wait to be collected."""
    alive = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                alive.add(process.pid)
    return alive


class Census:
    """The number of processes that are right here: as many as when it was made, less those that were just ending."""

    def __init__(self) -> None:
        time.sleep(_SETTLED)
        self.known = descendants()

    def strangers(self, patience: float = 0.5) -> set[int]:
        """Processes that are too many and do not go away within so many seconds."""
        until = time.monotonic() + patience
        while len(now := descendants()) > len(self.known) and time.monotonic() < until:
            time.sleep(0.01)
        return now - self.known if len(now) > len(self.known) else set()

    def end(self, strangers: set[int]) -> None:
        for pid in strangers:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        for pid in strangers:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
