"""What protection this machine gives, found by starting jails and trying to break out of them (`probe.py`).

Three levels, each a set of layers that must all be in force. `available()` names those of this machine, best first;
`grant` gives the best one or refuses, with what to enable; `protection()` is the whole table for `selfdev doctor`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from typing import NamedTuple, get_args

from selfdev_core.errors import SelfdevError
from selfdev_core.records import Level
from selfdev_core.sandbox import start

LEVELS: tuple[Level, ...] = get_args(Level)
_PROBE_SECONDS = 60.0


class SandboxError(SelfdevError):
    """The machine gives no sandbox as asked for, or the warm worker could not be started or died. No program's fault."""


class Layer(NamedTuple):
    """One layer on this machine. `fault` is empty when it is in force; `mend` says how to get it. `levels`: those that are not
    given without it; none when it is an extra."""

    name: str
    keeps_out: str
    levels: tuple[Level, ...]
    fault: str
    mend: str


class Protection(NamedTuple):
    levels: tuple[Level, ...]
    layers: tuple[Layer, ...]


_ALL: tuple[Level, ...] = ("strict", "standard", "process")
_FILTERED: tuple[Level, ...] = ("strict", "standard")
# probe's key → name, what it keeps out, levels that have it, how to get it.
_LAYERS: dict[str, tuple[str, str, tuple[Level, ...], str]] = {
    "namespaces": (
        "own user, mount, pid, net, ipc namespaces",
        "network, files and other processes are not there at all",
        ("strict",),
        "allow unprivileged user namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns=0)"
        " or run as root with CAP_SYS_ADMIN; in a container: --security-opt seccomp=unconfined, or --cap-add SYS_ADMIN",
    ),
    "landlock": (
        "Landlock",
        "no file can be opened, made or removed; no TCP",
        _FILTERED,
        "Linux 5.13 or newer with `landlock` in its lsm= list, in a container runtime that lets its calls pass",
    ),
    "seccomp": (
        "system-call filter",
        "anything but memory, time, the result pipe and its own end: files, sockets, processes, signals, tracing",
        _FILTERED,
        "Linux on x86_64 or aarch64 with CONFIG_SECCOMP_FILTER; elsewhere run selfdev in a Linux container or virtual machine",
    ),
    "user": (
        "no root, no capability",
        "what only an administrator may do",
        _ALL,
        "as root: keep CAP_SETUID and CAP_SETGID, or start selfdev as an ordinary user",
    ),
    "limits": (
        "limits",
        "memory, CPU time, new processes and threads, file growth, core dumps",
        _ALL,
        "macOS has no address-space limit; elsewhere raise the hard limits (ulimit -H) or run as an ordinary user",
    ),
    "cgroup": (
        "cgroup limits",
        "all programs of a worker together: an eighth of the memory and all but 512 processes stay for the rest of the machine",
        (),
        "start it as systemd-run --user --scope -p Delegate=yes selfdev … (as root without --user); with cgroups of version 1:"
        " as root with /sys/fs/cgroup writable",
    ),
}


def available() -> tuple[Level, ...]:
    """Levels that this machine gives, best first: some of "strict", "standard", "process"."""
    return protection().levels


def least_by_default() -> Level:
    """`standard` on Linux, where nearly every machine gives it; elsewhere `process`, as there is nothing better."""
    return "standard" if sys.platform == "linux" else "process"


def grant(least: Level | None) -> Level:
    """The best level of this machine.

    Raises: SandboxError when that is less than `least` (None: the platform's default), with what to enable.
    """
    least = least or least_by_default()
    found = protection()
    if found.levels and LEVELS.index(found.levels[0]) <= LEVELS.index(least):
        return found.levels[0]
    missing = [layer for layer in found.layers if least in layer.levels and layer.fault]
    lines = [f"  {layer.name}: {layer.fault}\n    to get it: {layer.mend}" for layer in missing]
    best = f"it gives {found.levels[0]!r}" if found.levels else "it gives none"
    raise SandboxError(
        "\n".join(
            [
                f"programs must run at sandbox level {least!r} at least, but this machine cannot: {best}",
                *lines,
                "  or set sandbox.least_level lower, if you trust the model that writes the programs (see SECURITY.md)",
            ]
        )
    )


@cache
def protection() -> Protection:
    """Every layer and level, tried once per process (about 0.1 s)."""
    try:
        done = subprocess.run(
            start.command("selfdev_core.sandbox.probe"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=start.ENVIRONMENT,
            cwd="/",
            start_new_session=True,
            timeout=_PROBE_SECONDS,
            check=True,
        )
        faults: dict[str, str] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise SandboxError(f"the sandbox cannot be tried on this machine: {error}") from error
    layers = tuple(Layer(name, out, levels, faults[key], mend) for key, (name, out, levels, mend) in _LAYERS.items())
    return Protection(tuple(level for level in LEVELS if not faults[level]), layers)
