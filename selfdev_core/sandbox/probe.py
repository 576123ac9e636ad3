"""Tries each layer and each level on this machine, in a process of its own, and prints what came of it as JSON.

`layers.py` starts it and reads that. A layer counts when what it should refuse is
refused, not when the call that sets it up succeeds. An empty text means: in force.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from selfdev_core.sandbox import doors

_LIMITS = doors.Limits(seconds=10.0, address_space=2 << 30)


class NotRefused(Exception):
    """Something happened that the layer should have refused."""


def refused(what: str, act: Callable[[], object]) -> None:
    """Raises NotRefused when the act succeeds."""
    try:
        act()
    except (OSError, MemoryError):
        return
    raise NotRefused(what)


def check_jail() -> None:
    """What no program may do at `standard` and `strict`. Raises NotRefused naming what it could do."""
    refused("a file can be read", lambda: os.open("/", os.O_RDONLY))
    refused("a file can be made", lambda: os.open("/tmp/selfdev-probe", os.O_CREAT | os.O_WRONLY))
    refused("a file's status can be read", lambda: os.stat("/"))
    refused("a socket can be made", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    refused("a unix socket can be made", lambda: socket.socket(socket.AF_UNIX))
    refused("another process can be signalled", lambda: os.kill(os.getppid(), 0))
    check_single()


def check_single() -> None:
    """No program may start a process, at any level."""
    refused("a process can be started", _fork)


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _namespaces() -> None:
    from selfdev_core.sandbox import namespaces

    namespaces.split()
    namespaces.close_files()
    if os.getpid() != 1:
        raise NotRefused("other processes have numbers here")
    if os.listdir("/"):
        raise NotRefused("files are in view")
    refused("the empty root can be written", lambda: os.mkdir("/x"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        refused("the network can be reached", lambda: sock.connect(("192.0.2.1", 9)))


def _user() -> None:
    from selfdev_core.sandbox import namespaces

    namespaces.become_nobody()
    if os.geteuid() == 0:
        raise NotRefused("the user is still root, without capabilities")
    status = Path("/proc/self/status").read_text()
    held = [line.split()[1] for line in status.splitlines() if line.startswith(("CapEff", "CapPrm"))]
    if any(int(mask, 16) for mask in held):
        raise NotRefused("capabilities are held")


def _landlock() -> None:
    from selfdev_core.sandbox import kernel, landlock

    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    if not landlock.restrict():
        raise OSError("the kernel has none")
    refused("a folder can be read", lambda: os.listdir("/"))


def _seccomp() -> None:
    from selfdev_core.sandbox import kernel, seccomp

    prepared = doors.prepare_filter("standard")
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    seccomp.install(prepared)
    check_jail()


def _limits() -> None:
    if doors.LINUX:
        from selfdev_core.sandbox import namespaces

        namespaces.become_nobody()
    doors.limit(_LIMITS)
    check_single()
    if doors.LINUX:
        refused("memory is not limited", lambda: mmap.mmap(-1, 4 << 30))


def _cgroup() -> None:
    """The bound on memory is not tried by going over it: each time the kernel would complain in the machine's log."""
    from selfdev_core.sandbox import cgroup

    group = cgroup.make(cgroup.memory_bound(), processes=1)
    if group is None:
        raise OSError("this process may make no group, or there is no controller for it")
    try:
        missing = set(cgroup.CONTROLLERS) - set(group.folders)
        if missing:
            raise OSError(f"no controller for {' and '.join(sorted(missing))}")
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(write)
            if not os.read(read, 1):  # until it is in the group
                os._exit(0)  # which it could not be put in
            with suppress(NotRefused):
                check_single()
                os._exit(0)
            os._exit(1)
        try:
            group.add(child)
            os.write(write, b".")
        finally:
            os.close(write)
            _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status):
            raise NotRefused("a second process can be started in a group of one")
    finally:
        group.end()


def _level(level: str) -> None:
    """The whole level, as a worker and a program go through it."""
    doors.leave(level)
    prepared = doors.prepare_filter(level)
    doors.lock(level)
    doors.shut(3, _LIMITS, prepared)
    if level in doors.FILTERED:
        check_jail()
    else:
        check_single()


CHECKS: dict[str, Callable[[], None]] = {
    "namespaces": _namespaces,
    "user": _user,
    "landlock": _landlock,
    "seccomp": _seccomp,
    "limits": _limits,
    "cgroup": _cgroup,
    "strict": lambda: _level("strict"),
    "standard": lambda: _level("standard"),
    "process": lambda: _level("process"),
}


def tried(check: Callable[[], None]) -> str:
    """Empty when the check passes in a forked process, else what went wrong. Uses descriptor 3."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.dup2(write, 3)
        text = ""
        try:
            check()
        except BaseException as error:
            text = str(error) or type(error).__name__
        with suppress(OSError):
            os.write(3, f"done{text[:300]}".encode())
        os._exit(0)
    os.close(write)
    said = b""
    while part := os.read(read, 4096):
        said += part
    os.close(read)
    os.wait()
    text = said.decode("utf-8", "replace")
    return text.removeprefix("done") if text.startswith("done") else "its process died"


def main() -> None:
    while os.open(os.devnull, os.O_RDONLY) < 3:
        pass  # descriptor 3 must be taken: it becomes the result pipe of every child
    print(json.dumps({name: tried(check) for name, check in CHECKS.items()}))
    sys.stdout.flush()
