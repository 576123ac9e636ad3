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


def test_version_2_makes_a_group_beside_our_own_where_controllers_are_handed_on(tmp_path: Path) -> None:
    slice_ = "sys/fs/cgroup/user.slice/app.slice"
    root = machine(tmp_path, "0::/user.slice/app.slice/run.scope\n", V2, {slice_: "cpu memory pids\n"})
    (root / slice_ / "run.scope").mkdir()
    assert cgroup.parents(root) == {"memory": root / slice_, "pids": root / slice_}
    leftover = root / slice_ / f"selfdev-{2**22 + 1}-1"  # no process has such a number
    alive = root / slice_ / f"selfdev-{os.getpid()}-0"
    leftover.mkdir()
    alive.mkdir()
    made = cgroup.make(5 * MIB, 7, root)
    assert made is not None and set(made.folders) == {"memory", "pids"}
    (folder,) = set(made.folders.values())
    assert folder.parent == root / slice_ and (folder / "pids.max").read_text() == "7"
    assert not leftover.exists() and alive.exists()
    made.add(4321)
    assert (folder / "cgroup.procs").read_text() == "4321"


@pytest.mark.parametrize(
    ("own", "mounts", "handed_on"),
    [
        ("0::/a/b\n", V2, {"sys/fs/cgroup/a": "cpu\n"}),  # neither controller
        ("0::/a/b\n", V2, {}),
        ("0::/\n", V2, {"sys/fs/cgroup": ""}),  # a container: its own group is all it sees
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
def test_a_bound_above_leaves_an_eighth_of_itself(tmp_path: Path, said: str, bound: int) -> None:
    root = machine(tmp_path, "0::/one/two/three\n", V2, {"sys/fs/cgroup/one/two": "memory\n"})
    (root / "sys/fs/cgroup/one/memory.max").write_text(said)
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
@pytest.mark.parametrize("level", layers.available())
def test_a_worker_and_its_programs_live_in_a_bounded_group_that_ends_with_them(bundle: Bundle, level: str) -> None:
    with Sandbox({"probes": bundle}, 5.0, 1.0, level=level) as sandbox:  # type: ignore[arg-type]
        assert sandbox.run("def merge_models(m, device):\n    return m['alpha']\n", "probes").reason == "accepted"
        group = sandbox._group
        assert group is not None and set(group.folders) == set(cgroup.CONTROLLERS)
        idle = 2 if level == "strict" else 1  # the worker, and who waits for it outside of its namespaces
        assert becomes(group, idle)
        assert sandbox._process is not None and sandbox._process.pid in group.processes()
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
        "import os, time\ndef merge_models(m, device):\n    try:\n        if os.fork() == 0:\n            os.setsid()\n"
        "            if os.fork() == 0:\n                time.sleep(600)\n            os._exit(0)\n"
        "    except OSError:\n        pass\n    return m['alpha'] * 0.5\n"
    )
    with Sandbox({"probes": bundle}, 20.0, 1.0, level="standard") as jail:
        before = {process.pid for process in psutil.process_iter()}
        run = CudaExecutor(jail, 20.0, 1.0, device="cpu").run(daemon, "probes")
        assert run.reason == "accepted", run
        new = [one for one in psutil.process_iter() if one.pid not in before and one.status() != "zombie"]
        assert not [one for one in new if "cuda_worker" in " ".join(one.cmdline())]
