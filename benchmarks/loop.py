"""The whole loop: time and memory of the demo, what the factory learned over campaign seeds, what Prefect costs.

    make bench-loop            five campaign seeds, each in an empty home; about 25 minutes on two cores
    SEEDS=0,1 make bench-loop  only these; rows of other seeds in the results file stay, each with its own conditions

Per seed: `selfdev demo` in an empty home (timed, peak memory), the same command again (timed; nothing may be computed),
and for the first `PAIRED` seeds the same campaign without Prefect, for the ratio and to see that the results are equal.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measure import conditions, measure, write_results
from selfdev_core.result import CampaignResult, Interval

PAIRED = 3
RESULTS = Path(__file__).parent / "results" / "loop.json"
SELFDEV = [sys.executable, "-m", "flows.cli"]


def main() -> None:
    seeds = [int(s) for s in os.environ.get("SEEDS", "0,1,2,3,4").split(",")]
    console = Console()
    before = conditions()
    found = {row["seed"]: row for row in json.loads(RESULTS.read_text())["raw"]} if RESULTS.is_file() else {}
    for number, seed in enumerate(seeds):
        with tempfile.TemporaryDirectory(prefix="selfdev-bench-") as folder:
            at = conditions()
            found[seed] = _one(seed, Path(folder), paired=number < PAIRED) | {"conditions": at}
            console.print(_line(found[seed]), highlight=False)
    rows = [found[seed] for seed in sorted(found)]
    figures = _figures(rows)
    _table(rows, figures, console)
    console.print(f"wrote {write_results('loop', figures, before | {'seeds': sorted(found)}, rows)}", highlight=False)


def _one(seed: int, folder: Path, paired: bool) -> dict[str, Any]:
    home, log = folder / "home", folder / "log.txt"
    command = [*SELFDEV, "demo", "--seed", str(seed)]
    name = "miniature" if seed == 0 else f"miniature-seed{seed}"
    try:
        first = measure(command, home, log)
        result = _result(home, name)
        records = _computed(home)
        again = measure(command, home, log)
        if _computed(home) != records:
            raise RuntimeError("the second run computed something anew")
    finally:
        subprocess.run([*SELFDEV, "server", "stop"], env=os.environ | {"SELFDEV_HOME": str(home)}, check=False)
    row = _summary(result) | {
        "seed": seed,
        "demo_seconds": first.seconds,
        "demo_peak_gb": first.peak_gb,
        "rerun_seconds": again.seconds,
    }
    if paired:
        other = folder / "direct"
        config = json.dumps(result.config)
        direct = measure([sys.executable, "-m", "benchmarks.direct", config], other, log)
        row["direct_seconds"] = direct.seconds
        row["direct_equal"] = essence(_result(other, name)) == essence(result)
    return row


def _result(home: Path, name: str) -> CampaignResult:
    return CampaignResult.model_validate_json((home / "campaigns" / name / "result.json").read_text())


def _computed(home: Path) -> dict[str, float]:
    """Every stored record with its time of writing, less the iteration and question records, which are written anew."""
    kept = ("generated", "verdicts", "scorecards", "trained")
    files = [path for kind in kept for path in (home / "store" / "records" / kind).rglob("*.json")]
    return {str(path): path.stat().st_mtime for path in files}


def essence(result: CampaignResult) -> list[object]:
    """What must not depend on who ran the stages: programs, scores and the winner."""
    rounds = [(r.arm, r.iteration, [c.algorithm_id for c in r.candidates], r.sample_scores) for r in result.iterations]
    board = [
        (c.subject, *(k.outcomes if k else () for k in (c.search, c.validation, c.test))) for c in result.leaderboard
    ]
    return [rounds, result.winner, board]


def _summary(result: CampaignResult) -> dict[str, Any]:
    rounds = {(r.arm, r.iteration): r for r in result.iterations}
    last = max(r.iteration for r in result.iterations if r.arm == "trained")
    against = {c.label: c.difference for c in result.comparisons}
    assert result.learned_gain is not None
    test = {row.subject: row.test.score for row in result.leaderboard if row.test}
    return {
        "learned_gain": result.learned_gain.model_dump(),
        "mean_trained": [rounds["trained", i].mean_score for i in range(1, last + 1)],
        "mean_untrained": [rounds["untrained", i].mean_score for i in range(1, last + 1)],
        "valid_share_last": rounds["trained", last].valid_share,
        "skipped_updates": sum(r.dpo_skipped for r in result.iterations),
        "evaluated": result.budget.model_dump() if result.budget else {},
        "winner_test": test[result.winner],
        "winner_minus": {label: difference.model_dump() for label, difference in against.items()},
    }


def _figures(rows: list[dict[str, Any]]) -> dict[str, object]:
    def median(key: str) -> float:
        return round(statistics.median(row[key] for row in rows), 3)

    def difference(label: str, part: str = "value") -> list[float]:
        return [row["winner_minus"][label][part] for row in rows]

    paired = [row for row in rows if "direct_seconds" in row]
    families = Path(__file__).parent / "results" / "families.json"
    return {
        "demo_seconds": median("demo_seconds"),
        "demo_peak_gb": round(max(row["demo_peak_gb"] for row in rows), 3),
        "rerun_seconds": median("rerun_seconds"),
        "learned_gain_median": round(statistics.median(row["learned_gain"]["value"] for row in rows), 4),
        "learned_gain_low": round(min(row["learned_gain"]["low"] for row in rows), 4),
        "valid_share_min": round(min(row["valid_share_last"] for row in rows), 4),
        "winner_minus_seed_low": round(min(difference("seed", "low")), 4),
        "winner_minus_best_expert": round(statistics.median(difference("best expert")), 4),
        "winner_minus_best_expert_low": round(min(difference("best expert", "low")), 4),
        "winner_minus_best_human": round(statistics.median(difference("best human-designed")), 4),
        "winner_minus_best_untrained": round(statistics.median(difference("best untrained")), 4),
        "orchestration_ratio": round(
            statistics.median(row["demo_seconds"] / row["direct_seconds"] for row in paired), 3
        ),
        "direct_equal": all(row["direct_equal"] for row in paired),
        "family_pass_rate": json.loads(families.read_text())["figures"]["family_pass_rate"],
    }


def _line(row: dict[str, Any]) -> str:
    gain = Interval.model_validate(row["learned_gain"])
    return (
        f"seed {row['seed']}: demo {row['demo_seconds']:.0f} s, {row['demo_peak_gb']:.1f} GB, again "
        f"{row['rerun_seconds']:.0f} s, learned {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
    )


def _table(rows: list[dict[str, Any]], figures: dict[str, object], console: Console) -> None:
    columns = (
        "seed",
        "demo s",
        "GB",
        "again s",
        "learned gain",
        "valid",
        "test",
        "− seed",
        "− expert",
        "− human",
        "− untrained",
    )
    table = Table(*columns)
    for row in rows:
        gaps = []
        for label in ("seed", "best expert", "best human-designed", "best untrained"):
            gap = Interval.model_validate(row["winner_minus"][label])
            gaps.append(f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]")
        gain = Interval.model_validate(row["learned_gain"])
        table.add_row(
            str(row["seed"]),
            f"{row['demo_seconds']:.0f}",
            f"{row['demo_peak_gb']:.2f}",
            f"{row['rerun_seconds']:.1f}",
            f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]",
            f"{row['valid_share_last']:.0%}",
            f"{row['winner_test']:.3f}",
            *gaps,
        )
    console.print(table)
    for name, value in figures.items():
        console.print(f"{name:<30}{value}", highlight=False)


if __name__ == "__main__":
    main()
