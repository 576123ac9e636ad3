"""What survives, and what it costs: the figures of `benchmarks/results/durability.json`.

    make bench-durability                          every part, one after the other
    PARTS=scale,load make bench-durability         only these; the others' figures in the results file stay
    KILLS=6 CORRUPTIONS=20 make bench-durability   fewer than the full number, for a look

kills-folder campaigns killed at every stage boundary and inside every stage, and run to their end; about 25 minutes
kills-s3     the same on S3
corruption   stored objects damaged at random, and found
retry        a deployment's run crashed, and retried as the UI does it: seconds to the first result from the cache, the longest
scale        300 and 3,000 programs in one iteration, with a trivial evaluator
load         ten campaigns at once on one store and one Prefect server with Postgres
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rich.console import Console

from benchmarks.measure import conditions, write_results

RESULTS = Path(__file__).parent / "results" / "durability.json"
KILLS, CORRUPTIONS, RETRIES, CAMPAIGNS = 44, 200, 3, 10  # kills: on each kind of store

StoreKind = Literal["folder", "s3"]


class Part(NamedTuple):
    """Its figures, for the table, and the rows that they come from."""

    figures: dict[str, Any]
    raw: Any


def main() -> None:
    console = Console()
    wanted = os.environ.get("PARTS", ",".join(PARTS)).split(",")
    if unknown := sorted(set(wanted) - set(PARTS)):
        raise SystemExit(f"PARTS: no part is called {', '.join(unknown)}; there are {', '.join(PARTS)}")
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    figures, at, raw = (found.get(name, {}) for name in ("figures", "conditions", "raw"))
    for name, measure in PARTS.items():
        if name not in wanted:
            continue
        before = conditions()
        part = measure()
        at[name], raw[name] = before, part.raw
        figures |= part.figures | _over_both_stores(raw)
        console.print(f"{name}: {part.figures}; wrote {write_results('durability', figures, at, raw)}", highlight=False)
    for figure, value in figures.items():
        console.print(f"{figure:<30}{value}", highlight=False)


def _kills(store_kind: StoreKind) -> Part:
    from benchmarks.durability_kills import kill_campaigns

    return Part({}, kill_campaigns(store_kind, int(os.environ.get("KILLS", KILLS)), tell=print))


def _over_both_stores(raw: dict[str, Any]) -> dict[str, Any]:
    """The figures of the kill suite: sums over the kinds of store on which it ran."""
    ran = [raw[part] for part in PARTS if part.startswith("kills-") and part in raw]
    return {name: sum(one[name] for one in ran) for name in ("kills", "kills_identical", "repeated_evaluations") if ran}


def _corruption() -> Part:
    from benchmarks.durability_corruption import corrupt_many

    raw = corrupt_many(int(os.environ.get("CORRUPTIONS", CORRUPTIONS)), seed=0)
    return Part({"corruptions": raw["corruptions"], "corruptions_detected": raw["detected"]}, raw)


def _retry() -> Part:
    from benchmarks.retry import measure_retry, site

    with tempfile.TemporaryDirectory(prefix="selfdev-retry-") as folder, site(Path(folder)) as at:
        rows = [measure_retry(at, f"retried-{number}")._asdict() for number in range(RETRIES)]
    return Part({"retry_seconds": round(max(row["retry_seconds"] for row in rows), 1)}, rows)


def _scale() -> Part:
    from benchmarks.durability_scale import many_candidates

    raw = many_candidates()
    return Part({name: raw[name] for name in ("orchestration_ms_per_program", "memory_growth_mb")}, raw["rows"])


def _load() -> Part:
    from benchmarks.durability_load import run_together

    rows = run_together(int(os.environ.get("CAMPAIGNS", CAMPAIGNS)))
    return Part({"concurrent_campaigns_ok": sum(row["ok"] for row in rows)}, rows)


PARTS: dict[str, Callable[[], Part]] = {
    "kills-folder": partial(_kills, "folder"),
    "kills-s3": partial(_kills, "s3"),
    "corruption": _corruption,
    "retry": _retry,
    "scale": _scale,
    "load": _load,
}

if __name__ == "__main__":
    main()
