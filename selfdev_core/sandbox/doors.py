"""The doors of the jail: which layers a level has, and the order in which they close.

`leave` and `lock` are the worker's, once: what they close stays closed for every program and costs it nothing.
`shut` is the program's own process, once per program. Nothing that is closed can be opened again.
"""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from typing import NamedTuple

LINUX = sys.platform == "linux"
FILTERED = ("strict", "standard")
_OPEN_FILES = 64


class Limits(NamedTuple):
    """Of one run: wall seconds (the trusted side keeps them), and bytes of address space in all."""

    seconds: float
    address_space: int


def leave(level: str) -> None:
    """Before anything is loaded. `strict`: into new namespaces, going on as process 1 there."""
    if level == "strict":
        from selfdev_core.sandbox import namespaces

        namespaces.split()


def lock(level: str) -> None:
    """When everything is loaded: no file, no network, no privilege for this process and all it forks."""
    if not LINUX:
        return
    from selfdev_core.sandbox import landlock, namespaces

    if level == "strict":
        namespaces.close_files()
    drop_privileges()
    if level in FILTERED and not landlock.restrict() and level == "strict":
        raise OSError("the kernel has no Landlock")


def drop_privileges() -> None:
    """No root, no capability, none to be had any more; and the process ends with its parent."""
    if LINUX:
        from selfdev_core.sandbox import kernel, namespaces

        namespaces.become_nobody()
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        namespaces.die_with_parent()


def prepare_filter(level: str) -> bytes:
    """The system-call filter of a level, ready for `shut`; empty when the level has none."""
    if level not in FILTERED:
        return b""
    from selfdev_core.sandbox import seccomp

    if not (LINUX and seccomp.supported()):
        raise OSError(f"no system-call filter for {sys.platform} on {os.uname().machine}")
    return seccomp.template()


def shut(result_fd: int, limits: Limits, prepared_filter: bytes) -> None:
    """In the program's process: keep the result pipe as descriptor 3 and nothing else, set limits, filter system calls.

    Descriptors 0 and 1 lead nowhere already (the worker was started so); 2 follows them.
    """
    os.setsid()
    os.dup2(1, 2)
    if result_fd != 3:
        os.dup2(result_fd, 3)
    os.closerange(4, os.sysconf("SC_OPEN_MAX"))
    if LINUX:
        from selfdev_core.sandbox import kernel, namespaces

        namespaces.die_with_parent()
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    limit(limits)
    if prepared_filter:
        from selfdev_core.sandbox import seccomp

        seccomp.install(prepared_filter)


def limit(limits: Limits) -> None:
    """Address space, CPU time, no new process or thread, no file growth, no core dump, few descriptors."""
    cpu = int(limits.seconds) + 2
    hard = {
        "RLIMIT_AS": limits.address_space,
        "RLIMIT_NPROC": 0,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_CORE": 0,
        "RLIMIT_MEMLOCK": 0,
        "RLIMIT_NOFILE": _OPEN_FILES,
    }
    for name, value in hard.items():
        with suppress(*(() if LINUX else (ValueError, OSError))):  # macOS refuses an address-space limit
            resource.setrlimit(getattr(resource, name), (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
