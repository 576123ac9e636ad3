"""How robust the miniature's recipe is: of so many training seeds, how many pass every gate.

make bench-families                    eight builds, about an hour on one core
SEEDS=1,2 FAMILIES=transfer make bench-families
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks.measure import conditions, write_results
from selfdev_core.miniature.build import build_family
from selfdev_core.miniature.families import FAMILIES


def main() -> None:
    console = Console()
    names = os.environ.get("FAMILIES", ",".join(FAMILIES)).split(",")
    seeds = [int(s) for s in os.environ.get("SEEDS", "0,1,2,3").split(",")]
    before = conditions() | {"seeds": seeds}
    outcomes = []
    for name in names:
        for seed in seeds:
            with tempfile.TemporaryDirectory() as folder:
                outcome = build_family(name, Path(folder) / "family", seed, lambda stage, share: None)
            outcomes.append(outcome)
            verdict = "passed" if outcome.passed else f"missed {', '.join(outcome.failed)}"
            console.print(f"{name} seed {seed}: {verdict} ({outcome.seconds:.0f} s)", highlight=False)
    passed = sum(outcome.passed for outcome in outcomes)
    figures = {"family_pass_rate": round(passed / len(outcomes), 3), "passed": passed, "builds": len(outcomes)}
    console.print(f"{passed} of {len(outcomes)} passed; wrote", end=" ")
    console.print(write_results("families", figures, before, [one.model_dump(mode="json") for one in outcomes]))


if __name__ == "__main__":
    main()
