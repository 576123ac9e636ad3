"""Thousands of programs in a row, a third of them hostile: does anything leak, does it get slower.

The same work takes a virtual machine 20 to 40 % more or less time from one ten seconds to the next, so one run says little
about getting slower: there are several, each on a worker of its own, and every one is kept in the results.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import psutil

from selfdev_core.miniature.programs import sample_program
from tests.security.census import Census, descendants
from tests.security.examine import Setting
from tests.security.hostile import HOSTILE


class Soak(NamedTuple):
    """`blocks`: programs per second of each tenth of the run, all tenths the same work.

    `ratio`: throughput of the last tenth over that of the first. `beside_new`: what new workers gave in the first and in the
    last tenth, program by program in turn with the worker under test: how much of `ratio` is the machine's.
    """

    programs: int
    ratio: float
    beside_new: tuple[float, float]
    blocks: list[float]
    leaks: list[str]
    worker_mb: list[float]


def soak(quick: list[str], setting: Setting, new: Callable[[], AbstractContextManager[Setting]], programs: int) -> Soak:
    """Ten times the same block of programs on `setting`; `new` opens a worker that has just begun.

    `quick` names the hostile ones to take; those that sleep are left out.
    """
    rng = random.Random(11)
    block = max(9, programs // 10)
    hostile = [setting.world.source(HOSTILE[rng.choice(quick)].source) for _ in range(block // 3)]
    work = hostile + [sample_program(rng) for _ in range(block - len(hostile))]
    rng.shuffle(work)
    census = Census()  # nothing is just ending now
    before = _held()
    rates, beside, worker = [], [], [_worker_mb()]
    for turn in range(10):
        if turn in (0, 9):
            with new() as other:
                mine, others = _in_turn(work, setting, other)
            beside.append(round(others, 1))
        else:
            mine = len(work) / sum(_seconds(source, setting) for source in work)
        rates.append(mine)
        worker.append(_worker_mb())
    strangers = census.strangers()
    leaks = [f"{name}: {was} before, {now} after" for name, was, now in _grown(before)]
    if strangers:
        leaks.append(f"{len(strangers)} processes")
    leaks += [f"{finding.harm}: {finding.what}" for finding in setting.world.harms()]
    first, last = beside
    return Soak(10 * block, rates[-1] / rates[0], (first, last), [round(rate, 1) for rate in rates], leaks, worker)


def _in_turn(work: list[str], one: Setting, other: Setting) -> tuple[float, float]:
    """Programs per second of each; which goes first changes from program to program."""
    seconds = {id(one): 0.0, id(other): 0.0}
    for number, source in enumerate(work):
        for setting in (one, other) if number % 2 else (other, one):
            seconds[id(setting)] += _seconds(source, setting)
    return len(work) / seconds[id(one)], len(work) / seconds[id(other)]


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
