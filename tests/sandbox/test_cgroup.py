"""The cgroup round a worker: found, made, bounded, ended. Real groups where this machine lets us make them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from selfdev_core.records import Level
from selfdev_core.sandbox import cgroup, layers
from selfdev_core.sandbox.bundle import Bundle
from selfdev_core.sandbox.client import Sandbox
from selfdev_core.sandbox.cuda import CudaExecutor

real = pytest.mark.skipif(
    set(cgroup.parents()) != set(cgroup.CONTROLLERS), reason="this machine lets us make no cgroup with bounds"
)
MIB = 1 << 20
V2 = "25 1 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"


def machine(root: Path, own: str, mounts: str, handed_on: dict[str, str]) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(own)
    (root / "proc/self/mountinfo").write_text("20 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + mounts)
    for group, controllers in handed_on.items():
        (root / group).mkdir(parents=True, exist_ok=True)
        (root / group / "cgroup.subtree_control").write_text(controllers)
    return root


@pytest.fixture
def delegated(monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """Groups that systemd is said to have delegated."""
    groups: set[Path] = set()
    monkeypatch.setattr(cgroup, "_marked", lambda unit: unit in groups)
    return groups


def test_version_2_makes_a_group_inside_a_delegated_unit_and_sweeps_what_the_dead_have_left(
    tmp_path: Path, delegated: set[Path]
) -> None:
    scope = "sys/fs/cgroup/app.slice/run.scope"
    root = machine(tmp_path, "0::/app.slice/run.scope/selfdev\n", V2, {scope: "memory pids\n"})
    unit = root / scope
    (unit / "cgroup.controllers").write_text("cpu memory pids\n")
    assert cgroup.parents(root) == {}  # nobody has delegated it
    delegated.add(unit)
    assert cgroup.parents(root) == {"memory": unit, "pids": unit}
    space = os.stat("/proc/self/ns/pid").st_ino
    leftover = unit / f"selfdev-{space}-{2**22 + 1}-1-aa"  # no process has such a number
    again = unit / f"selfdev-{space}-{os.getpid()}-1-bb"  # another process had ours
    foreign = unit / f"selfdev-1-{2**22 + 1}-1-cc"  # another pid namespace's
    odd = unit / f"selfdev-{space}-99999999999999999999999-1-dd"
    alive = unit / f"{cgroup._mine()}-ee"
    for one in (leftover, again, foreign, odd, alive):
        one.mkdir()
    made = cgroup.make(5 * MIB, 7, root)
    assert made is not None and set(made.folders) == {"memory", "pids"}
    (folder,) = set(made.folders.values())
    assert folder.parent == unit and (folder / "pids.max").read_text() == "7"
    assert foreign.exists() and alive.exists()
    made.add(4321)
    assert (folder / "cgroup.procs").read_text() == "4321"


def test_version_2_moves_the_processes_of_its_unit_into_a_leaf_before_it_bounds_groups(
    tmp_path: Path, delegated: set[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = machine(tmp_path, "0::/run.scope\n", V2, {"sys/fs/cgroup/run.scope": ""})
    unit = root / "sys/fs/cgroup/run.scope"
    delegated.add(unit)
    (unit / "cgroup.controllers").write_text("memory pids\n")
    inside = [{11, 12}, {13}, set[int]()]  # 13 was started while 11 and 12 were moved
    monkeypatch.setattr(cgroup, "_processes", lambda folder: inside.pop(0))
    assert cgroup.parents(root) == {"memory": unit, "pids": unit}
    assert (unit / "cgroup.subtree_control").read_text() == "+memory +pids" and not inside
    assert (unit / "selfdev" / "cgroup.procs").read_text() == "13"


def test_what_cannot_be_read_or_moved_costs_the_extra_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delegated: set[Path]
) -> None:
    root = machine(tmp_path, "0::/one\n", V2, {"sys/fs/cgroup/one": ""})
    with (root / "proc/self/mountinfo").open("ab") as file:
        file.write("26 1 0:23 / /mnt/caf\u00e9 rw - ext4 /dev/sdb rw\n".encode("latin-1"))
    assert cgroup.parents(root) == {}
    memory, pids = tmp_path / "memory", tmp_path / "pids"
    for folder in (memory, pids):
        folder.mkdir()
    monkeypatch.setattr(cgroup, "parents", lambda machine=root: {"memory": memory, "pids": pids})
    added = cgroup.Cgroup.add

    def only_the_first(group: cgroup.Cgroup, pid: int) -> None:
        added(cgroup.Cgroup({"memory": group.folders["memory"]}), pid)
        raise PermissionError

    monkeypatch.setattr(cgroup.Cgroup, "add", only_the_first)
    assert cgroup.around(4321) is None
    assert (memory / "cgroup.procs").read_text() == "4321"  # where it was


@pytest.mark.parametrize(
    ("own", "mounts", "handed_on"),
    [
        ("0::/a/b\n", V2, {"sys/fs/cgroup/a/b": "memory pids\n"}),  # not delegated
        ("0::/\n", V2, {"sys/fs/cgroup": "memory pids\n"}),  # a container: its own group is all it sees
        ("0::/a\n", "", {}),  # nothing mounted
        ("3:cpu:/\n", "25 1 0:22 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n", {"sys/fs/cgroup/cpu": ""}),
    ],
)
def test_where_nothing_is_handed_on_there_is_no_group(
    tmp_path: Path, own: str, mounts: str, handed_on: dict[str, str]
) -> None:
    assert cgroup.make(MIB, machine=machine(tmp_path, own, mounts, handed_on)) is None


def test_version_1_makes_a_group_in_ours_also_where_only_part_of_the_tree_is_mounted(tmp_path: Path) -> None:
    mounts = (
        "31 1 0:31 /docker/one /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "32 1 0:32 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
    )
    own = "4:memory:/docker/one/inner\n8:pids:/\n0::/\n"
    root = machine(tmp_path, own, mounts, {"sys/fs/cgroup/memory/inner": "", "sys/fs/cgroup/pids": ""})
    assert cgroup.parents(root) == {
        "memory": root / "sys/fs/cgroup/memory/inner",
        "pids": root / "sys/fs/cgroup/pids",
    }


@pytest.mark.parametrize(("said", "bound"), [("8000000", 7_000_000), ("max", psutil.virtual_memory().total // 8 * 7)])
@pytest.mark.parametrize("where", ["one", "one/two"])
def test_a_bound_on_a_group_that_we_are_in_leaves_an_eighth_of_itself(
    tmp_path: Path, delegated: set[Path], where: str, said: str, bound: int
) -> None:
    root = machine(tmp_path, "0::/one/two\n", V2, {"sys/fs/cgroup/one/two": "memory\n"})
    (root / "sys/fs/cgroup/one/two/cgroup.controllers").write_text("memory\n")
    delegated.add(root / "sys/fs/cgroup/one/two")
    (root / "sys/fs/cgroup" / where / "memory.max").write_text(said)
    assert cgroup.memory_bound(root) == bound


@real
def test_whoever_holds_more_than_the_group_may_is_killed() -> None:
    group = cgroup.make(64 * MIB)
    assert group is not None
    script = "import sys; sys.stdin.read(1); held = b'x' * (1 << {}); print(len(held))"
    for power, status in ((24, 0), (27, -9)):
        process = subprocess.Popen(
            [sys.executable, "-c", script.format(power)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        group.add(process.pid)
        process.communicate(b".")
        assert process.returncode == status
    group.end()
    assert not any(folder.exists() for folder in group.folders.values())


@real
def test_a_group_has_no_more_processes_than_its_bound_and_all_end_with_it() -> None:
    group = cgroup.make(256 * MIB, processes=3)
    assert group is not None
    script = (
        "import os, sys, time\nsys.stdin.read(1)\n"
        "for n in range(5):\n    try:\n        if os.fork() == 0:\n            os.setsid()\n            time.sleep(600)\n"
        "    except BlockingIOError:\n        print(n, flush=True)\n        break\n"
        "time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    group.add(process.pid)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b".")
    process.stdin.flush()
    assert process.stdout.readline() == b"2\n"
    inside = group.processes()
    assert len(inside) == 3 and process.pid in inside
    group.end()
    assert process.wait(10) == -9
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in inside)


def becomes(group: cgroup.Cgroup, processes: int) -> bool:
    """Whether within four seconds so many are in it: those that have ended leave it a moment later."""
    deadline = time.monotonic() + 4
    while len(group.processes()) != processes and time.monotonic() < deadline:
        time.sleep(0.01)
    return len(group.processes()) == processes


@real
def test_what_a_killed_maker_has_left_is_ended_when_the_next_group_is_made() -> None:
    space = os.stat("/proc/self/ns/pid").st_ino
    name = f"selfdev-{space}-{2**22 + 1}-1-left"
    left = cgroup.Cgroup({controller: parent / name for controller, parent in cgroup.parents().items()})
    for folder in left.folders.values():
        folder.mkdir()
    process = subprocess.Popen(["sleep", "600"])
    left.add(process.pid)
    made = cgroup.make(64 * MIB)
    assert made is not None
    made.end()
    assert process.wait(10) == -9
    assert not any(folder.exists() for folder in left.folders.values())


@real
@pytest.mark.parametrize("level", layers.available())
def test_a_worker_and_its_programs_live_in_a_bounded_group_that_ends_with_them(bundle: Bundle, level: Level) -> None:
    with Sandbox({"probes": bundle}, 1.0, 1.0, level=level) as sandbox:
        assert sandbox.run("def merge_models(m, device):\n    return m['alpha']\n", "probes").reason == "accepted"
        group = sandbox._worker and sandbox._worker.group
        assert group is not None and set(group.folders) == set(cgroup.CONTROLLERS)
        idle = 2 if level == "strict" else 1  # the worker, and who waits for it outside of its namespaces
        assert becomes(group, idle)
        assert sandbox._worker is not None and sandbox._worker.process.pid in group.processes()
        memory = group.folders["memory"]
        bound = next(memory / name for name in ("memory.max", "memory.limit_in_bytes") if (memory / name).exists())
        assert int(bound.read_text()) < psutil.virtual_memory().total
        endless = threading.Thread(
            target=sandbox.run, args=("def merge_models(m, device):\n    while True: pass\n", "probes")
        )
        endless.start()
        assert becomes(group, idle + 1)
        endless.join()
        assert becomes(group, idle)
    assert not any(folder.exists() for folder in group.folders.values())


@real
def test_what_a_program_on_a_device_starts_ends_with_it(bundle: Bundle) -> None:
    """At `standard` its process has no namespaces of its own and may start others in sessions of their own."""
    daemon = (
        "import os, time\ndef merge_models(m, device):\n    forked = 0.25\n    try:\n        if os.fork() == 0:\n"
        "            os.setsid()\n            if os.fork() == 0:\n                time.sleep(600)\n            os._exit(0)\n"
        "        forked = 0.5\n    except OSError:\n        pass\n    return m['alpha'] * forked\n"
    )
    with Sandbox({"probes": bundle}, 20.0, 1.0, level="standard") as jail:
        sound = jail.run(daemon, "probes")
        before = set(psutil.pids())
        run = CudaExecutor(jail, 20.0, 1.0, device="cpu").run(daemon, "probes")
        assert run.reason == "accepted", run
        for name, tensor in run.tensors.items():  # in the jail it could not fork, here it could
            assert bool((tensor == 2 * sound.tensors[name]).all())
        assert not [pid for pid in set(psutil.pids()) - before if _is_a_device_s(pid)]


def _is_a_device_s(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and "cuda_worker" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


@real
def test_a_program_that_dies_because_others_have_taken_the_memory_runs_again_alone(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group is made so small that the program by itself is too much for it; alone, it gets one of the usual size."""
    usual, small = cgroup.memory_bound(), [300 * MIB]
    monkeypatch.setattr(cgroup, "memory_bound", lambda: small.pop() if small else usual)
    greedy = (
        "import torch\ndef merge_models(m, device):\n    held = torch.ones(100_000_000)\n"
        "    return m['alpha'] * held[0]\n"
    )
    with Sandbox({"probes": bundle}, 30.0, 1.0) as sandbox:
        assert sandbox.run(greedy, "probes").reason == "accepted"
        assert (
            sandbox._worker is not None and sandbox._worker.group is not None and sandbox._worker.group.oom_kills() >= 2
        )
