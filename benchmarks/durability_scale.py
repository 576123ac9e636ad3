"""What orchestration and store cost per program, and whether memory stays flat: 300 and 3,000 programs per iteration.

Flow, worker and server processes are measured from outside, from the start of the iteration until the server has taken in
everything that it was told. The evaluator is trivial (`benchmarks/trivial.py`); all else is real: flow, tasks, store, SQLite.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

SMALL, LARGE = 300, 3000
PARTS = ("flow", "workers", "server")
_EVERY = 0.25  # seconds between two looks at memory
_QUIET = 0.1  # the server has taken in everything: so little CPU, seconds per second
_DRAIN = 300.0  # seconds to wait for that


def many_candidates(small: int = SMALL, large: int = LARGE) -> dict[str, Any]:
    """`orchestration_ms_per_program` (CPU milliseconds of the large iteration) and `memory_growth_mb` (1e6 bytes, peak of
    the large iteration over peak of the small one, sums over all processes), with the rows that they come from."""
    rows = [one_iteration(programs) for programs in (small, large)]
    return {
        "orchestration_ms_per_program": rows[1]["cpu_ms_per_program"],
        "memory_growth_mb": round(rows[1]["peak_mb"] - rows[0]["peak_mb"], 1),
        "rows": rows,
    }


def one_iteration(programs: int) -> dict[str, Any]:
    """Run one iteration in a new home with a new server and measure it. Raises: RuntimeError when it does not end right."""
    with tempfile.TemporaryDirectory(prefix="selfdev-bench-") as folder:
        home = Path(folder) / "home"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        environment |= {"SELFDEV_HOME": str(home)}
        log = Path(folder) / "log.txt"
        try:
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.durability_iteration", str(programs)],
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=output,
                    text=True,
                )
            return _measured(process, programs, home, log)
        finally:
            process.kill()
            process.wait()
            stop = [sys.executable, "-m", "flows.cli", "server", "stop"]
            subprocess.run(stop, env=environment, check=False, capture_output=True)


def _measured(process: subprocess.Popen[str], programs: int, home: Path, log: Path) -> dict[str, Any]:
    _expect(process, "ready", log)
    server = json.loads((home / "prefect" / "server.json").read_text())
    pids = {"flow": process.pid, "server": int(server["pid"])}
    _settle(pids)
    before = _cpu(pids)
    peak = _Peak(pids)
    began = time.monotonic()
    _tell(process)
    found = json.loads(_expect(process, "done ", log))
    wall = time.monotonic() - began
    drained = _settle(pids)
    used = {name: seconds - before[name] for name, seconds in _cpu(pids).items()}
    peak.stop()
    if (found["samples"], found["distinct"], found["evaluated"]) != (programs,) * 3 or not found["trained"]:
        raise RuntimeError(f"the iteration of {programs} programs found {found}")
    row = {
        "programs": programs,
        "cpu_ms_per_program": round(1000 * sum(used.values()) / programs, 3),
        "cpu_seconds": {name: round(seconds, 2) for name, seconds in used.items()},
        "wall_seconds": round(wall, 2),
        "server_behind_seconds": round(drained, 1),
        "peak_mb": round(peak.total / 1e6, 1),
        "peak_mb_of": {name: round(size / 1e6, 1) for name, size in peak.each.items()},
        "records": _records(home),
    } | _ui(server["url"])
    _tell(process)
    process.wait(timeout=60)
    return row


def _expect(process: subprocess.Popen[str], word: str, log: Path) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(word):
            return line.removeprefix(word)
    raise RuntimeError(f"the iteration ended early:\n{log.read_text(errors='replace')[-3000:]}")


def _tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _processes(pids: dict[str, int]) -> Iterator[tuple[str, psutil.Process]]:
    """Every process with the part it plays: flow, worker or server (which the flow started, so it is the flow's child)."""
    for part in ("server", "flow"):
        with suppress(psutil.Error):
            root = psutil.Process(pids[part])
            yield part, root
            for child in root.children():
                if child.pid not in pids.values():
                    for process in (child, *child.children(recursive=True)):
                        yield "server" if part == "server" else "workers", process


def _cpu(pids: dict[str, int]) -> dict[str, float]:
    """User and system seconds so far; of workers, those that still run."""
    used = dict.fromkeys(PARTS, 0.0)
    for part, process in _processes(pids):
        with suppress(psutil.Error):
            times = process.cpu_times()
            used[part] += times.user + times.system
    return used


def _settle(pids: dict[str, int]) -> float:
    """Wait until the server does next to nothing; the seconds that it took."""
    began = time.monotonic()
    while time.monotonic() - began < _DRAIN:
        before, at = _cpu(pids)["server"], time.monotonic()
        time.sleep(3.0)
        if (_cpu(pids)["server"] - before) / (time.monotonic() - at) < _QUIET:
            return at - began
    raise RuntimeError(f"the server is still busy after {_DRAIN:.0f} s")


def _own_memory(pid: int) -> int:
    """Bytes that a process has written: anonymous and shared memory, pages of several processes in equal parts.

    Without the files that it maps: those are libraries, and what counts for them depends on who else on the machine uses them.
    """
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))


class _Peak:
    """Largest sum of the own memory of all processes, bytes; and of each part by itself."""

    def __init__(self, pids: dict[str, int]) -> None:
        self.total = 0
        self.each = dict.fromkeys(PARTS, 0)
        self._pids = pids
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_EVERY):
            now = dict.fromkeys(PARTS, 0)
            for part, process in _processes(self._pids):
                with suppress(OSError):
                    now[part] += _own_memory(process.pid)
            self.each = {part: max(self.each[part], size) for part, size in now.items()}
            self.total = max(self.total, sum(now.values()))


def _records(home: Path) -> dict[str, int]:
    kinds = sorted((home / "store" / "records").iterdir())
    return {kind.name: sum(1 for _ in kind.rglob("*.json")) for kind in kinds}


def _ui(url: str) -> dict[str, Any]:
    """What the UI asks of the server for the run's page: the graph and the list of task runs."""
    with httpx.Client(base_url=url, timeout=60.0) as client:
        ended = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}, "limit": 10}
        runs = client.post("/flow_runs/filter", json=ended).raise_for_status().json()
        (run,) = [run for run in runs if run["parent_task_run_id"]]
        count = {"flow_runs": {"id": {"any_": [run["id"]]}}}
        tasks = int(client.post("/task_runs/count", json=count).raise_for_status().json())
        began = time.monotonic()
        nodes = client.get(f"/flow_runs/{run['id']}/graph-v2").raise_for_status().json()["nodes"]
        graph = time.monotonic() - began
        began = time.monotonic()
        client.post("/task_runs/filter", json=count | {"limit": 200}).raise_for_status()
        listed = time.monotonic() - began
    return {
        "task_runs": tasks,
        "graph_nodes": len(nodes),
        "graph_seconds": round(graph, 3),
        "task_list_seconds": round(listed, 3),
    }


if __name__ == "__main__":
    sizes = [int(size) for size in sys.argv[1:]] or [SMALL, LARGE]
    for size in sizes:
        print(json.dumps(one_iteration(size), indent=1), flush=True)
