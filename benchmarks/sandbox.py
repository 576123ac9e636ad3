"""What the sandbox holds and what it costs, for each level that this machine gives.

    make bench-sandbox                          every level in full; about 40 minutes on two cores
    SHARE=0.02 LEVELS=strict make bench-sandbox a fiftieth of the runs, one level
    PARTS=hostile,soak make bench-sandbox       only these parts

Levels and parts left out keep what the results file says of them, with the conditions under which it was measured.
Each level: the hostile programs of `tests/security`, the cost of a program on a warm worker beside a fresh interpreter,
private memory of concurrent programs, deadlines, a long mixed run, harmless programs. `benchmarks/sandbox_cost.py` and
`benchmarks/sandbox_soak.py` do the measuring.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measure import conditions, write_results
from benchmarks.sandbox_cost import memory_per_child, overhead
from benchmarks.sandbox_soak import Soak, soak
from selfdev_core.config import ControlsConfig
from selfdev_core.merging.human import human_algorithms
from selfdev_core.miniature.programs import sample_program
from selfdev_core.records import Level
from selfdev_core.sandbox.client import Sandbox
from tests.security.census import orphans_come_to_us
from tests.security.examine import LATE, Setting, examine
from tests.security.harmless import wrongly_refused
from tests.security.hostile import HOSTILE
from tests.security.hostile.trees import STALLERS
from tests.security.jails import setting_for
from tests.security.levels import LEVELS, claimed
from tests.security.world import World

DEADLINES, DEADLINE = 200, 0.25
HARMLESS_PROGRAMS, SOAK_PROGRAMS, TIMED_PROGRAMS = 5000, 10_000, 300
SOAKS = 5
PARTS = ("hostile", "cost", "deadlines", "soak", "harmless")
RESULTS = Path(__file__).parent / "results" / "sandbox.json"


def main() -> None:
    share = float(os.environ.get("SHARE", "1"))
    wanted = os.environ.get("LEVELS", ",".join(LEVELS)).split(",")
    parts = os.environ.get("PARTS", ",".join(PARTS)).split(",")
    if unknown := sorted(set(parts) - set(PARTS)):
        raise SystemExit(f"PARTS: no part is called {', '.join(unknown)}; there are {', '.join(PARTS)}")
    levels = [level for level in LEVELS if level in wanted]
    console = Console()
    before = conditions() | {"user": "root" if os.geteuid() == 0 else "ordinary"}
    known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"figures": {}, "raw": {}}
    figures: dict[str, Any] = known["figures"]
    raw: dict[str, Any] = known["raw"]
    with orphans_come_to_us():
        world = World()
        try:
            for level in levels:
                for part, (found, samples) in _level(level, world, share, parts, console):
                    at = conditions() | {"share": share}
                    figures[level] = figures.get(level, {}) | found
                    raw[level] = raw.get(level, {}) | {part: {"conditions": at, "samples": samples}}
        finally:
            world.close()
    figures = {level: figures[level] for level in LEVELS if level in figures}
    _table(figures, console)
    console.print(f"wrote {write_results('sandbox', figures, before, raw)}", highlight=False)


def _level(
    level: Level, world: World, share: float, parts: list[str], console: Console
) -> Iterator[tuple[str, tuple[dict[str, Any], Any]]]:
    """Part by part: its figures, and the samples that they come from."""
    sandbox, setting = setting_for(level, world)

    def count(full: int, least: int) -> int:
        return max(least, round(full * share))

    def told(part: str) -> bool:
        if part in parts:
            console.print(f"{level}: {part}", highlight=False)
        return part in parts

    with closing(sandbox):
        if told("hostile") or "soak" in parts:
            findings, quick = _hostile(level, setting)
            yield "hostile", (_hostile_figures(level, findings), findings)
        if told("cost"):
            cost = overhead(level, count(TIMED_PROGRAMS, 20), count(10, 3))
            memory = memory_per_child(level)
            costs = {
                "overhead_ms_median": round(cost.overhead_ms, 2),
                "ratio_to_fresh_interpreter": round(cost.ratio, 1),
                "memory_mb_per_child": None if memory is None else round(memory, 2),
            }
            yield "cost", (costs, cost._asdict())
        if told("deadlines"):
            late = _deadline_misses(setting, count(DEADLINES, len(STALLERS)))
            yield "deadlines", ({"deadline_misses": len(late)}, late)
        if told("soak"):
            runs = [_soak(level, world, quick, count(SOAK_PROGRAMS, 200)) for _ in range(count(SOAKS, 1))]
            yield "soak", (_soak_figures(runs), [run._asdict() for run in runs])
        if told("harmless"):
            refused = _harmless_rejected(sandbox, world, count(HARMLESS_PROGRAMS, 50))
            yield "harmless", ({"harmless_rejected": len(refused)}, refused)


def _hostile_figures(level: Level, findings: dict[str, list[tuple[str, str]]]) -> dict[str, int]:
    escapes = [name for name, found in findings.items() if any(one[0] != "verdict" for one in found)]
    return {
        "escapes": len(escapes),
        "wrong_verdicts": len(findings) - len(escapes),
        "hostile_programs": len(claimed(level)),
    }


def _soak(level: Level, world: World, quick: list[str], programs: int) -> Soak:
    """On a worker of its own, so that its first programs are a worker's first."""

    @contextmanager
    def new() -> Iterator[Setting]:
        sandbox, setting = setting_for(level, world)
        with closing(sandbox):
            yield setting

    with new() as setting:
        return soak(quick, setting, new, programs)


def _soak_figures(runs: list[Soak]) -> dict[str, Any]:
    """`soak_throughput_ratio`: last thousand over first thousand, the median of the runs. `soak_ratio_beside_new`: the same
    after dividing by what new workers gave at those two moments."""
    beside = [run.ratio * run.beside_new[0] / run.beside_new[1] for run in runs]
    return {
        "soak_programs": runs[0].programs,
        "soaks": len(runs),
        "soak_throughput_ratio": round(statistics.median(run.ratio for run in runs), 3),
        "soak_throughput_ratios": [round(run.ratio, 3) for run in runs],
        "soak_ratio_beside_new": round(statistics.median(beside), 3),
        "soak_leaks": sum(len(run.leaks) for run in runs),
    }


def _hostile(level: Level, setting: Setting) -> tuple[dict[str, list[tuple[str, str]]], list[str]]:
    """What went wrong, by program; and the names of those that are over quickly, for the long run."""
    findings: dict[str, list[tuple[str, str]]] = {}
    quick = []
    for one in claimed(level):
        began = time.monotonic()
        found = examine(one, setting)
        if time.monotonic() - began < 0.15:
            quick.append(one.name)
        if found:
            findings[one.name] = [(finding.harm, finding.what) for finding in found]
    return findings, quick


def _deadline_misses(setting: Setting, runs: int) -> list[dict[str, Any]]:
    """Runs after which something of the program was alive half a second past its deadline, or with another verdict."""
    late = []
    for _, (name, template) in zip(range(runs), itertools.cycle(STALLERS.items()), strict=False):
        began = time.monotonic()
        reason = setting.run(setting.world.source(template), DEADLINE).reason
        left = setting.census.strangers(patience=began + DEADLINE + LATE - time.monotonic())
        took = time.monotonic() - began
        if left or took > DEADLINE + LATE or reason != "time-limit":
            late.append({"name": name, "reason": reason, "seconds": round(took, 3), "left": len(left)})
            setting.census.end(left)
    return late


def _harmless_rejected(sandbox: Sandbox, world: World, programs: int) -> list[str]:
    rng = random.Random(5)
    sources = [sample_program(rng) for _ in range(programs)]
    sources += [algorithm.source for algorithm in human_algorithms(ControlsConfig())]
    return [fault for source in sources if (fault := wrongly_refused(source, sandbox, world))]


def _table(figures: dict[str, Any], console: Console) -> None:
    table = Table("figure", *figures)
    for name in next(iter(figures.values())):
        table.add_row(name, *(str(of.get(name, "")) for of in figures.values()))
    console.print(table)
    console.print(
        f"{len(HOSTILE)} hostile programs in the suite; each level runs those whose harm it claims to prevent"
    )


if __name__ == "__main__":
    main()
