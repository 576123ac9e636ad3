"""Measures a command as a whole: wall seconds and peak memory of its process tree and of the server it started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil


class Measured(NamedTuple):
    """Wall seconds, and the largest sum of proportional set sizes (shared pages counted once), GB = 1e9 bytes."""

    seconds: float
    peak_gb: float


def measure(command: list[str], home: Path, log: Path) -> Measured:
    """Run a command with its own selfdev home. Raises RuntimeError with the end of its output when it fails."""
    environment = os.environ | {"SELFDEV_HOME": str(home)}
    environment.pop("PREFECT_API_URL", None)
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        peak = [0.0]
        stop = threading.Event()
        watch = threading.Thread(target=_watch, args=(process.pid, home, peak, stop))
        watch.start()
        code = process.wait()
        seconds = time.monotonic() - began
        stop.set()
        watch.join()
    if code != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {code}:\n{log.read_text(errors='replace')[-2000:]}")
    return Measured(seconds, peak[0])


def _watch(pid: int, home: Path, peak: list[float], stop: threading.Event) -> None:
    while not stop.wait(2.0):
        roots = [pid]
        with suppress(OSError, ValueError, KeyError):
            roots.append(int(json.loads((home / "prefect" / "server.json").read_text())["pid"]))
        peak[0] = max(peak[0], sum(_tree_bytes(root) for root in roots) / 1e9)


def _tree_bytes(pid: int) -> int:
    total = 0
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.Error):
                total += process.memory_full_info().pss
    return total


def conditions() -> dict[str, object]:
    """Machine, versions, load and date."""
    from datetime import UTC, datetime

    from selfdev_core.assemble import conditions as machine

    return machine() | {
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_before": [round(x, 2) for x in os.getloadavg()],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", "-m", *sys.orig_argv[2:]][:6]),
    }


def write_results(name: str, figures: dict[str, object], conditions: dict[str, object], raw: object) -> Path:
    """`benchmarks/results/NAME.json`: figures, conditions, raw samples."""
    path = Path(__file__).parent / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"figures": figures, "conditions": conditions, "raw": raw}, indent=1) + "\n")
    return path
