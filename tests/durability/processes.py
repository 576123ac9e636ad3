"""The processes of a running campaign, found from outside by what they are, and their violent end."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress

import psutil

from tests.durability.place import Place

WORKER, SANDBOX, SERVER = "multiprocessing.spawn", "selfdev_core.sandbox.zygote", "-m prefect server start"


def kill_driver(pid: int, group: bool) -> list[psutil.Process]:
    """SIGKILL to the driver's whole process group, or to the driver alone. Returns what descended from it, less the server,
    which outlives its driver by design."""
    servers = [one for one in _children(pid) if SERVER in _command(one)]
    kept = {*servers, *(below for server in servers for below in _below(server.pid))}
    below = [one for one in _below(pid) if one not in kept]
    _kill(pid, group)
    return below


def kill_worker(pid: int) -> bool:
    """SIGKILL to the model worker that computes the most just now."""
    workers = [one for one in _children(pid) if WORKER in _command(one)]
    before = {one: _cpu(one) for one in workers}
    time.sleep(0.03)
    busy = max(workers, key=lambda one: _cpu(one) - before[one], default=None)
    return busy is not None and _kill(busy.pid)


def kill_sandbox(pid: int) -> bool:
    """SIGKILL to the warm worker of the sandbox."""
    zygotes = _zygotes(pid)
    return bool(zygotes) and _kill(zygotes[-1])


def kill_program(pid: int) -> bool:
    """SIGKILL to a program that runs in the sandbox at this very moment, if there is one."""
    zygotes = _zygotes(pid)
    if not zygotes:
        return False
    until = time.monotonic() + 1.0
    while time.monotonic() < until:  # a program lives for some hundredths of a second
        for child in _child_pids(zygotes[-1]):
            if _kill(child):
                return True
        time.sleep(0.0005)
    return False


def kill_server(place: Place) -> bool:
    """SIGKILL to the local Prefect server and all that it started."""
    try:
        pid = int(json.loads((place.home / "prefect" / "server.json").read_text())["pid"])
    except (OSError, ValueError, KeyError):
        return False
    return _kill(pid, group=True)


def outlived(below: list[psutil.Process], patience: float) -> tuple[float, list[str]]:
    """Waits until all are gone: (seconds that it took, command lines of those still there after `patience` seconds)."""
    began = time.monotonic()
    while (left := [one for one in below if _lives(one)]) and time.monotonic() - began < patience:
        time.sleep(0.05)
    return time.monotonic() - began, [_command(one) for one in left]


def _zygotes(pid: int) -> list[int]:
    """The sandbox's process and, at level `strict`, the one in the namespaces, which runs the programs, last."""
    found = []
    for one in _children(pid):
        if SANDBOX in _command(one):
            found.append(one.pid)
            inside = [child for child in _child_pids(one.pid) if "NSpid" in (text := _status(child)) and _nested(text)]
            found += inside[:1]
            return found
    return found


def _nested(status: str) -> bool:
    """Whether a process is number 1 of a process namespace of its own."""
    line = next(line for line in status.splitlines() if line.startswith("NSpid"))
    return line.split()[-1] == "1" and len(line.split()) > 2


def _status(pid: int) -> str:
    with suppress(OSError), open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        return file.read()
    return ""


def _child_pids(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                found += [int(child) for child in file.read().split()]
    return found


def _below(pid: int) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []


def _children(pid: int) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return psutil.Process(pid).children()
    return []


def _command(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def _cpu(process: psutil.Process) -> float:
    with suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _kill(pid: int, group: bool = False) -> bool:
    try:
        (os.killpg if group else os.kill)(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
