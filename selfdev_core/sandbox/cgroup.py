"""A cgroup round a worker and all its programs (Linux): bounds on memory and processes that the kernel keeps, and an end for all.

Where the machine lets us make one: as root, or below a systemd user manager (cgroup v2). Versions 1 and 2 of the interface;
the controllers `memory` and `pids`, whichever are there. A program is bounded by its own limits first (`doors.limit`); this
bounds what all programs of a worker hold together, so that they cannot drive the machine out of memory.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

import psutil

CONTROLLERS = ("memory", "pids")
PROCESSES = 512
_MEMORY = ("memory.max", "memory.limit_in_bytes")  # of version 2, of version 1
_PREFIX = "selfdev-"
_END_SECONDS = 5.0
_numbers = count(1)


class Cgroup:
    """One group with bounds. `folders`: controller → the group's folder in its hierarchy."""

    def __init__(self, folders: dict[str, Path]) -> None:
        self.folders = folders

    def add(self, pid: int) -> None:
        """Put a process in; what it starts from now on is in as well. Raises: OSError when it may not be moved."""
        for folder in self._each():
            (folder / "cgroup.procs").write_text(str(pid))

    def processes(self) -> set[int]:
        """Ids of the processes that are in."""
        inside: set[int] = set()
        for folder in self._each():
            with suppress(OSError):
                inside |= {int(line) for line in (folder / "cgroup.procs").read_text().split()}
        return inside

    def end(self) -> None:
        """Kill whatever is in, however it was started, and remove the group."""
        deadline = time.monotonic() + _END_SECONDS
        while (inside := self.processes()) and time.monotonic() < deadline:
            for pid in inside:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
        for folder in self._each():
            with suppress(OSError):
                folder.rmdir()

    def _each(self) -> list[Path]:
        return sorted(set(self.folders.values()))


def memory_bound(machine: Path = Path("/")) -> int:
    """Bytes that a worker and its programs may hold together: an eighth of what there is stays for the rest.

    What there is: the machine's memory, or less where a group above has a bound, as in a container.
    """
    there = psutil.virtual_memory().total
    parent = parents(machine).get("memory")
    for folder in (parent, *parent.parents) if parent is not None else ():
        for name in _MEMORY:
            with suppress(OSError, ValueError):  # no such file, or "max"
                there = min(there, int((folder / name).read_text()))
    return there // 8 * 7


def make(memory_bytes: int, processes: int = PROCESSES, machine: Path = Path("/")) -> Cgroup | None:
    """A new group with these bounds, beside the one that this process is in; None where the machine offers none.

    Groups whose maker is dead are removed on the way. `machine`: the root folder below which `/proc` and `/sys` lie.
    """
    name = f"{_PREFIX}{os.getpid()}-{next(_numbers)}"
    made = Cgroup({})
    for controller, parent in parents(machine).items():
        _sweep(parent)
        folder = parent / name
        try:
            folder.mkdir(exist_ok=folder in made.folders.values())
            _write(folder, controller, memory_bytes if controller == "memory" else processes)
            made.folders[controller] = folder
        except OSError:
            if folder not in made.folders.values():
                with suppress(OSError):
                    folder.rmdir()
    return made if made.folders else None


def around(pid: int) -> Cgroup | None:
    """A group with the bounds of a worker round this process, which has started nothing yet; None where there can be none."""
    group = make(memory_bound())
    if group is None:
        return None
    try:
        group.add(pid)
    except OSError:
        group.end()
        return None
    return group


def parents(machine: Path = Path("/")) -> dict[str, Path]:
    """Controller → the folder in which a group of ours can be made. Empty where this process may make none.

    Version 1: the group that this process is in. Version 2, where a group with processes has no bounded groups in it: the
    group above, if it hands the controller on.
    """
    try:
        own = [line.split(":", 2) for line in (machine / "proc/self/cgroup").read_text().splitlines()]
        mounts = [line.split() for line in (machine / "proc/self/mountinfo").read_text().splitlines()]
    except OSError:
        return {}
    found: dict[str, Path] = {}
    for _, names, path in own:
        for fields in mounts:
            kind, options = fields[fields.index("-") + 1], fields[-1].split(",")
            root, at = fields[3], machine / fields[4].lstrip("/")
            if not path.startswith(root):
                continue
            group = at / path.removeprefix(root).lstrip("/")
            if kind == "cgroup2" and not names:
                above = group if group == at else group.parent
                for controller in set(CONTROLLERS) & _handed_on(above):
                    found.setdefault(controller, above)
            elif kind == "cgroup":
                for controller in set(CONTROLLERS) & set(names.split(",")) & set(options):
                    found[controller] = group
    return {controller: folder for controller, folder in found.items() if os.access(folder, os.W_OK)}


def _handed_on(group: Path) -> set[str]:
    try:
        return set((group / "cgroup.subtree_control").read_text().split())
    except OSError:
        return set()


def _write(folder: Path, controller: str, bound: int) -> None:
    """Raises: OSError when the kernel takes no bound."""
    if controller == "pids":
        (folder / "pids.max").write_text(str(bound))
        return
    newer, older = (folder / name for name in _MEMORY)
    first = newer if newer.exists() else older
    first.write_text(str(bound))
    with suppress(OSError):  # a kernel without bounds on swap
        if first is newer:
            (folder / "memory.swap.max").write_text("0")
        else:
            (folder / "memory.memsw.limit_in_bytes").write_text(str(bound))  # memory and swap together


def _sweep(parent: Path) -> None:
    """Remove groups of ours that a killed process left; one with processes in it stays."""
    for folder in parent.glob(f"{_PREFIX}*-*"):
        maker = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if maker.isdecimal() and not psutil.pid_exists(int(maker)):
            with suppress(OSError):
                folder.rmdir()
