"""A cgroup round a worker and all its programs (Linux): bounds on memory and processes that the kernel keeps, and an end for all.

An extra, where the machine lets us make one: as root with version 1 of the interface, or with version 2 in a unit that systemd
has delegated to us. It lies inside the group that we are in, so whatever bounds us bounds it too. A program is bounded by its
own limits first (`doors.limit`); this bounds what all programs of a worker hold together.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from contextlib import suppress
from pathlib import Path

import psutil

CONTROLLERS = ("memory", "pids")
PROCESSES = 512
_MEMORY = ("memory.max", "memory.limit_in_bytes")  # of version 2, of version 1
_OOM = ("memory.events", "memory.oom_control")
_PREFIX = "selfdev-"
_LEAF = "selfdev"  # version 2: where this process and its siblings go, so that our group may have bounded groups in it
_END_SECONDS = 5.0
_FAULTS = (
    OSError,
    ValueError,
    OverflowError,
)  # odd content of /proc, odd names beside ours: no group then, and no harm


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
        return set().union(*(_processes(folder) for folder in self._each()))

    def oom_kills(self) -> int:
        """How many of its processes the kernel has killed because they held more memory together than they may."""
        for name in _OOM:
            with suppress(*_FAULTS, KeyError):
                lines = (self.folders["memory"] / name).read_text().splitlines()
                return int(dict(line.split(maxsplit=1) for line in lines)["oom_kill"])
        return 0

    def end(self) -> None:
        """Kill whatever is in, however it was started, and remove the group."""
        if "pids" in self.folders:
            with suppress(OSError):
                (self.folders["pids"] / "pids.max").write_text("0")  # nothing new comes while the rest is killed
        deadline = time.monotonic() + _END_SECONDS
        while (inside := self.processes()) and time.monotonic() < deadline:
            for pid in inside:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
        self.remove()

    def remove(self) -> None:
        """Remove the group when nothing is in it."""
        for folder in self._each():
            with suppress(OSError):
                folder.rmdir()

    def _each(self) -> list[Path]:
        return sorted(set(self.folders.values()))


def around(pid: int) -> Cgroup | None:
    """A group with the bounds of a worker round this process, which has started nothing yet; None where there can be none."""
    group = None
    try:
        group = make(memory_bound())
        if group is not None:
            group.add(pid)
        return group
    except _FAULTS:
        for folder in set(group.folders.values()) if group is not None else ():
            with suppress(OSError):
                (folder.parent / "cgroup.procs").write_text(str(pid))
        if group is not None:
            group.remove()
        return None


def memory_bound(machine: Path = Path("/")) -> int:
    """Bytes that a worker and its programs may hold together: an eighth of what there is stays for the rest.

    What there is: the machine's memory, or less where a group that we are in has a bound, as in a container.
    """
    there = psutil.virtual_memory().total
    parent = parents(machine).get("memory")
    for folder in (parent, *parent.parents) if parent is not None else ():
        for name in _MEMORY:
            with suppress(OSError, ValueError):  # no such file, or "max"
                there = min(there, int((folder / name).read_text()))
    return there // 8 * 7


def make(memory_bytes: int, processes: int = PROCESSES, machine: Path = Path("/")) -> Cgroup | None:
    """A new group with these bounds, inside the one that this process is in; None where the machine offers none.

    Groups whose maker is dead are ended on the way. `machine`: the root folder below which `/proc` and `/sys` lie.
    """
    name = f"{_mine()}-{uuid.uuid4().hex[:12]}"
    made = Cgroup({})
    for controller, parent in parents(machine).items():
        _sweep(parent)
        folder = parent / name
        try:
            folder.mkdir(exist_ok=True)
            _bound(folder, controller, memory_bytes if controller == "memory" else processes)
            made.folders[controller] = folder
        except OSError:
            if folder not in made.folders.values():
                with suppress(OSError):
                    folder.rmdir()
    return made if made.folders else None


def parents(machine: Path = Path("/")) -> dict[str, Path]:
    """Controller → the folder in which a group of ours can be made. Empty where this process may make none."""
    try:
        own = [line.split(":", 2) for line in _text(machine / "proc/self/cgroup").splitlines()]
        mounts = [line.split() for line in _text(machine / "proc/self/mountinfo").splitlines()]
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
                delegated = _delegated(group)
                for controller in set(CONTROLLERS) & (_handed_on(delegated) if delegated is not None else set()):
                    found.setdefault(controller, group.parent if group.name == _LEAF else group)
            elif kind == "cgroup":
                for controller in set(CONTROLLERS) & set(names.split(",")) & set(options):
                    found[controller] = group
    return {controller: folder for controller, folder in found.items() if os.access(folder, os.W_OK)}


def _delegated(group: Path) -> Path | None:
    """Version 2: the unit's group if systemd has delegated it to us."""
    unit = group.parent if group.name == _LEAF else group
    return unit if _marked(unit) else None


def _marked(unit: Path) -> bool:
    """Whether systemd says that what lies below a unit's group is the unit's own affair (Delegate=yes)."""
    for name in ("user.delegate", "trusted.delegate"):
        with suppress(OSError):
            if os.getxattr(unit, name) == b"1":
                return True
    return False


def _handed_on(unit: Path) -> set[str]:
    """Version 2: the controllers with which groups below a delegated unit can be bounded.

    A group with processes hands none on, so all that are in the unit's own group move into a leaf of it first.
    """
    control = unit / "cgroup.subtree_control"
    with suppress(OSError):
        there = set(_text(unit / "cgroup.controllers").split()) & set(CONTROLLERS)
        if not there <= set(_text(control).split()):
            leaf = unit / _LEAF
            leaf.mkdir(exist_ok=True)
            while inside := _processes(unit):
                for pid in inside:
                    (leaf / "cgroup.procs").write_text(str(pid))
            control.write_text(" ".join(f"+{controller}" for controller in sorted(there)))
        return there
    return set()


def _processes(folder: Path) -> set[int]:
    try:
        return {int(line) for line in (folder / "cgroup.procs").read_text().split()}
    except OSError:
        return set()


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def _bound(folder: Path, controller: str, bound: int) -> None:
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


def _mine() -> str:
    """Begins the names of this process's groups. Process numbers are unique in one pid namespace and at one time only."""
    return f"{_PREFIX}{_pid_namespace()}-{os.getpid()}-{_started(os.getpid())}"


def _pid_namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino


def _sweep(parent: Path) -> None:
    """End the groups that a dead process of our pid namespace has left, with what is in them."""
    for folder in parent.glob(f"{_PREFIX}{_pid_namespace()}-*-*-*"):
        with suppress(*_FAULTS):
            pid, started = (int(part) for part in folder.name.split("-")[2:4])
            if not _lives(pid, started):
                Cgroup({"pids": folder}).end()


def _lives(pid: int, started: int) -> bool:
    try:
        return _started(pid) == started
    except FileNotFoundError:
        return False


def _started(pid: int) -> int:
    """When a process was started, in clock ticks since the boot: unlike a time of day it stays when the clock is set.

    Raises: FileNotFoundError when there is none.
    """
    return int(_text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()[19])
