"""The system calls that a program may make: memory, time, its open pipe, its own end. Everything else is refused.

A classic BPF program, written out by hand so that it needs no library. A refused call gives EPERM, which a Python
program meets as PermissionError. A call in another architecture's numbering (x32, 32-bit) ends the process. Signals
go to the process itself only: its own process number is part of the filter. A clock of another process is a negative
number, and refused. Pages may not be merged with those of other processes.

Executable memory stays allowed, because matrix libraries write machine code at run time; such code meets this filter too.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from selfdev_core.sandbox import kernel

# name → number on x86_64, on aarch64.
ALLOWED = {
    "read": (0, 63), "write": (1, 64), "writev": (20, 66), "close": (3, 57), "fstat": (5, 80), "lseek": (8, 62),
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "mremap": (25, 216),
    "brk": (12, 214), "futex": (202, 98), "sched_yield": (24, 124), "membarrier": (324, 283),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    "nanosleep": (35, 101), "gettimeofday": (96, 169), "restart_syscall": (219, 128), "getrandom": (318, 278),
    "getpid": (39, 172), "gettid": (186, 178), "getppid": (110, 173), "getuid": (102, 174), "geteuid": (107, 175),
    "getgid": (104, 176), "getegid": (108, 177), "getrusage": (98, 165), "times": (100, 153), "uname": (63, 160),
    "sysinfo": (99, 179), "getcpu": (309, 168),
    "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip
# Allowed by their first argument: the process itself; itself or 0 (which means itself); a clock of no other process.
_TO_SELF = {"kill": (62, 129), "tgkill": (234, 131)}
_ABOUT_SELF = {"sched_getaffinity": (204, 123)}
_CLOCKS = {"clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115)}
_MEMORY_ADVICE = {"madvise": (28, 233)}  # any but merging pages, whose timing tells what other processes hold
_ABSENT = {"clone3": (435, 435)}  # ENOSYS, so that the C library falls back to clone, which is refused

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_X32, _NEGATIVE = 0x40000000, 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_KILL, _ALLOW, _ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
# Offsets in struct seccomp_data; arguments are little-endian.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _THIRD_ARGUMENT = 0, 4, 16, 32
_FILTER_MODE = 2
_MERGEABLE = 12
_PID_MARK = 0x5E1FDE77


def supported() -> bool:
    return os.uname().machine in _ARCHITECTURES


def template() -> bytes:
    """The filter for this machine, with a mark where the process number belongs."""
    column, architecture = _ARCHITECTURES[os.uname().machine]
    allowed = sorted(numbers[column] for numbers in ALLOWED.values())
    special = [
        (_EQUAL, numbers[column], ending, "")
        for ending, calls in (
            ("self", _TO_SELF),
            ("about", _ABOUT_SELF),
            ("clock", _CLOCKS),
            ("advice", _MEMORY_ADVICE),
            ("absent", _ABSENT),
        )
        for numbers in calls.values()
    ]
    # Layout: checks, then the endings. A jump names how many instructions it passes over.
    checks: list[tuple[int, int, str, str]] = [
        (_LOAD, _ARCHITECTURE, "", ""),
        (_EQUAL, architecture, "", "kill"),
        (_LOAD, _NUMBER, "", ""),
        (_AT_LEAST, _X32, "kill", ""),
        *((_EQUAL, number, "allow", "") for number in allowed),
        *special,
        (_RETURN, _ERRNO | errno.EPERM, "", ""),
    ]
    endings = {"self": 0, "about": 2, "clock": 5, "refuse": 7, "allow": 8, "absent": 9, "kill": 10, "advice": 11}
    tail = [
        (_LOAD, _FIRST_ARGUMENT, 0, 0),
        (_EQUAL, _PID_MARK, 6, 5),
        (_LOAD, _FIRST_ARGUMENT, 0, 0),
        (_EQUAL, 0, 4, 0),
        (_EQUAL, _PID_MARK, 3, 2),
        (_LOAD, _FIRST_ARGUMENT, 0, 0),
        (_AT_LEAST, _NEGATIVE, 0, 1),
        (_RETURN, _ERRNO | errno.EPERM, 0, 0),
        (_RETURN, _ALLOW, 0, 0),
        (_RETURN, _ERRNO | errno.ENOSYS, 0, 0),
        (_RETURN, _KILL, 0, 0),
        (_LOAD, _THIRD_ARGUMENT, 0, 0),
        (_EQUAL, _MERGEABLE, 0, 1),
        (_RETURN, _ERRNO | errno.EPERM, 0, 0),
        (_RETURN, _ALLOW, 0, 0),
    ]

    def jump(here: int, where: str) -> int:
        return len(checks) + endings[where] - here - 1 if where else 0

    head = [(code, value, jump(i, yes), jump(i, no)) for i, (code, value, yes, no) in enumerate(checks)]
    return b"".join(struct.pack("HBBI", code, yes, no, value) for code, value, yes, no in head + tail)


def install(prepared: bytes) -> None:
    """Put the filter over this process, for good. Needs no_new_privs."""
    program = prepared.replace(struct.pack("I", _PID_MARK), struct.pack("I", os.getpid()))
    kept = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(kept))
    kernel.prctl(kernel.PR_SET_SECCOMP, _FILTER_MODE, ctypes.create_string_buffer(header, len(header)))
