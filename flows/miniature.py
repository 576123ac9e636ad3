"""Builds a miniature family with progress on the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from selfdev_core.errors import ConfigError, SelfdevError


def build_here(family: str, out: Path, seed: int, tries: int, console: Console) -> None:
    """Train a family, say which gate failed for which seed, and end with an error when none passed."""
    from selfdev_core.miniature.build import build_until_passes
    from selfdev_core.miniature.families import FAMILIES

    if family not in FAMILIES:
        raise ConfigError(f"unknown family {family!r}; there are {', '.join(FAMILIES)}")
    if out.exists():
        raise ConfigError(f"{out}: exists already; name a new folder with --out")
    bars = Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console)
    with bars:
        bar = bars.add_task(f"{family}: starting", total=1.0)
        outcomes = build_until_passes(
            family,
            out,
            seed,
            tries,
            lambda stage, share: bars.update(bar, description=f"{family}: {stage}", completed=share),
        )
    for outcome in outcomes:
        verdict = "passed every gate" if outcome.passed else f"missed {', '.join(outcome.failed)}"
        console.print(f"seed {outcome.seed}: {verdict} ({outcome.seconds:.0f} s)", highlight=False)
    passed = sum(outcome.passed for outcome in outcomes)
    console.print(f"{passed} of {len(outcomes)} seed(s) passed", highlight=False)
    if not passed:
        raise SelfdevError(f"no seed from {seed} to {seed + tries - 1} passed; try more with --tries or another --seed")
    console.print(f"Wrote {out}", highlight=False)
