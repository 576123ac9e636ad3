"""A world of its own for the worker and its programs: no network, an empty read-only root, its own process numbers.

Root makes the namespaces directly and becomes an ordinary user afterwards; an ordinary user makes them inside a new
user namespace. Both end without a capability.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from pathlib import Path

from selfdev_core.sandbox import kernel

NOBODY = 65534
_WORLD = (
    kernel.CLONE_NEWPID
    | kernel.CLONE_NEWNS
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWCGROUP
)


def split() -> None:
    """Enter new namespaces and go on in a child that is process 1 of them; this process waits for it and ends with it.

    The file system stays in view until `close_files`.
    """
    uid, gid = os.geteuid(), os.getegid()
    try:
        kernel.unshare(_WORLD)
    except PermissionError:
        kernel.unshare(_WORLD | kernel.CLONE_NEWUSER)
        with suppress(FileNotFoundError):
            Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    pid = os.fork()
    if pid == 0:
        die_with_parent()
        socket.sethostname("sandbox")
        return
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    _, status = os.waitpid(pid, 0)
    os._exit(max(0, os.waitstatus_to_exitcode(status)))


def close_files() -> None:
    """Replace the root by an empty read-only folder; what is open or mapped already stays."""
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("none", "/tmp", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC, "size=4k,mode=555")
    os.chdir("/tmp")
    kernel.pivot_root(".", ".")
    kernel.unmount(".")
    os.chdir("/")
    flags = kernel.MS_REMOUNT | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("none", "/", None, flags)


def die_with_parent() -> None:
    """The kernel ends this process when its parent ends. (Changing the user forgets it: call it afterwards.)"""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)


def become_nobody() -> None:
    """Root becomes the user nobody; whoever it is has no capability afterwards."""
    if os.geteuid() == 0:
        with suppress(OSError):  # a container without such a user: stay who we are, without capabilities
            os.setgroups([])
        with suppress(OSError):
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
    kernel.drop_capabilities()
