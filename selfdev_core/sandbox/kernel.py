"""The few Linux system calls that Python has no name for, through ctypes. Each raises OSError on failure."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Any

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 1, 4, 38, 22
CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 32, 0x4000, 1 << 18
MNT_DETACH = 2

# The same on x86_64 and aarch64, except pivot_root and capset.
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, *arguments: Any) -> None:
    values = [argument if not isinstance(argument, int) else ctypes.c_ulong(argument) for argument in arguments]
    values += [ctypes.c_ulong(0)] * (4 - len(values))
    _checked(_libc.prctl(option, *values), "prctl")


def unshare(flags: int) -> None:
    _checked(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    names = (source.encode(), target.encode(), kind.encode() if kind else None)
    _checked(_libc.mount(*names, ctypes.c_ulong(flags), data.encode() or None), f"mount {target}")


def unmount(target: str) -> None:
    _checked(_libc.umount2(target.encode(), MNT_DETACH), f"unmount {target}")


def pivot_root(new: str, old: str) -> None:
    _checked(_libc.syscall(_PIVOT_ROOT[os.uname().machine], new.encode(), old.encode()), "pivot_root")


def drop_capabilities() -> None:
    """None left in the effective, permitted and inheritable sets."""
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    _checked(_libc.syscall(_CAPSET[os.uname().machine], header, bytes(24)), "capset")


def landlock_abi() -> int:
    """Version of Landlock that the kernel offers; 0 when it has none."""
    return max(0, int(_libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))))


def landlock_restrict(handled_files: int, handled_network: int, scoped: int) -> None:
    """Refuse this process and its children every handled action: a rule set without a rule allows none.

    Needs no_new_privs.
    """
    fields = struct.pack("QQQ", handled_files, handled_network, scoped)
    size = 24 if scoped else 16 if handled_network else 8
    ruleset = _libc.syscall(_LANDLOCK_CREATE_RULESET, fields, ctypes.c_size_t(size), ctypes.c_uint32(0))
    _checked(ruleset, "landlock_create_ruleset")
    try:
        _checked(_libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, ctypes.c_uint32(0)), "landlock_restrict_self")
    finally:
        os.close(ruleset)


def _checked(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
