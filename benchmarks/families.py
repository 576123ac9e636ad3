"""How robust the miniature's recipe is: of so many training seeds, how many pass every gate.

make bench-families                    eight builds, about half an hour on two cores
SEEDS=1,2 FAMILIES=transfer make bench-families
KEEP=folder make bench-families        keeps the families that pass, as folder/FAMILY-SEED
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from rich.console import Console

from benchmarks.measure import conditions, write_results
from selfdev_core.miniature.build import BuildOutcome, build_family
from selfdev_core.miniature.families import FAMILIES


def main() -> None:
    console = Console()
    names = os.environ.get("FAMILIES", ",".join(FAMILIES)).split(",")
    seeds = [int(s) for s in os.environ.get("SEEDS", "0,1,2,3").split(",")]
    before = conditions() | {"seeds": seeds, "families": names}
    os.environ["OMP_NUM_THREADS"] = "1"
    outcomes = []
    with (
        tempfile.TemporaryDirectory() as scratch,
        ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as builders,
    ):
        folder = os.environ.get("KEEP", scratch)
        jobs = [(name, seed, f"{folder}/{name}-{seed}") for seed in seeds for name in names]
        for outcome in builders.map(_build, *zip(*jobs, strict=True)):
            outcomes.append(outcome)
            verdict = "passed" if outcome.passed else f"missed {', '.join(outcome.failed)}"
            measured = ", ".join(f"{gate.name} {gate.value:.3f}" for gate in outcome.gates)
            console.print(
                f"{outcome.family} seed {outcome.seed}: {verdict} ({measured}; {outcome.seconds:.0f} s)",
                highlight=False,
            )
    passed = sum(outcome.passed for outcome in outcomes)
    figures = {"family_pass_rate": round(passed / len(outcomes), 3), "passed": passed, "builds": len(outcomes)}
    console.print(f"{passed} of {len(outcomes)} passed; wrote", end=" ")
    console.print(write_results("families", figures, before, [one.model_dump(mode="json") for one in outcomes]))


def _build(name: str, seed: int, out: str) -> BuildOutcome:
    import torch

    torch.set_num_threads(1)
    return build_family(name, Path(out), seed, lambda stage, share: None)


if __name__ == "__main__":
    main()
