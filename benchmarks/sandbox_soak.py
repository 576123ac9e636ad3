"""Thousands of programs in a row, a third of them hostile: does anything leak, does it get slower."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from selfdev_core.miniature.programs import sample_program
from tests.security.census import Census, descendants
from tests.security.examine import Setting
from tests.security.hostile import HOSTILE


class Soak(NamedTuple):
    """`blocks`: programs per second of each tenth of the run, all tenths the same work.

    `ratio`: throughput of the last tenth, against the same programs on a worker that has just begun. The two run them by
    turns, so that both meet the same machine; `blocks` show how it changed over the whole run.
    """

    programs: int
    ratio: float
    blocks: list[float]
    leaks: list[str]
    worker_mb: list[float]


def soak(quick: list[str], setting: Setting, fresh: Setting, programs: int) -> Soak:
    """Ten times the same block of programs on `setting`, the last time beside `fresh`.

    `quick` names the hostile ones to take; those that sleep are left out.
    """
    rng = random.Random(11)
    block = max(9, programs // 10)
    hostile = [setting.world.source(HOSTILE[rng.choice(quick)].source) for _ in range(block // 3)]
    work = hostile + [sample_program(rng) for _ in range(block - len(hostile))]
    rng.shuffle(work)
    census = Census()  # nothing is just ending now
    before = _held()
    rates, worker = [], [_worker_mb()]
    for turn in range(10):
        seconds = other = 0.0
        for source in work:
            seconds += _seconds(source, setting)
            if turn == 9:
                other += _seconds(source, fresh)
        rates.append(len(work) / seconds)
        worker.append(_worker_mb())
    strangers = census.strangers()
    leaks = [f"{name}: {was} before, {now} after" for name, was, now in _grown(before)]
    if strangers:
        leaks.append(f"{len(strangers)} processes")
    leaks += [f"{finding.harm}: {finding.what}" for finding in setting.world.harms()]
    return Soak(10 * block, other / seconds, [round(rate, 1) for rate in rates], leaks, worker)


def _seconds(source: str, setting: Setting) -> float:
    began = time.monotonic()
    setting.run(source, 20.0)
    return time.monotonic() - began


def _held() -> dict[str, int]:
    """What may not grow: descriptors of this process and of its descendants, shared memory of the machine, temporary files."""
    held = {"descriptors": len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0}
    for name in ("/dev/shm", "/proc/sysvipc/shm", "/proc/sysvipc/sem", "/proc/sysvipc/msg"):
        path = Path(name)
        if path.is_dir():
            held[name] = len(list(path.iterdir()))
        elif path.exists():
            held[name] = len(path.read_text().splitlines())
    total = 0
    for pid in descendants():
        try:
            total += psutil.Process(pid).num_fds()
        except psutil.Error:
            continue
    return held | {"descriptors of descendants": total}


def _grown(before: dict[str, int]) -> list[tuple[str, int, int]]:
    after = _held()
    return [(name, was, after[name]) for name, was in before.items() if after[name] > was]


def _worker_mb() -> float:
    """Resident memory of the worker and what it keeps running, MB = 1e6 bytes."""
    total = 0
    for pid in descendants():
        try:
            total = max(total, psutil.Process(pid).memory_info().rss)
        except psutil.Error:
            continue
    return round(total / 1e6, 1)
