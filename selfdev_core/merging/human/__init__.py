"""Human-designed merge algorithms, each a program under the candidates' own contract, with its grid.

They go through the same sandbox, merging and evaluation as a discovered program; only the constants are set here.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import NamedTuple

from selfdev_core.config import ControlsConfig


class HumanAlgorithm(NamedTuple):
    label: str
    source: str


def human_algorithms(config: ControlsConfig) -> list[HumanAlgorithm]:
    """Every grid point of the configured human baselines."""
    grid = [_at("task_arithmetic", f"task arithmetic {c:g}", COEFFICIENT=c) for c in config.task_arithmetic]
    grid += [_at("ties", f"TIES {d:g}/{c:g}", DENSITY=d, COEFFICIENT=c) for d, c in config.ties]
    grid += [_at("dare", f"DARE {p:g}/{c:g}", DROP=p, COEFFICIENT=c) for p, c in config.dare]
    return grid


def _at(module: str, label: str, **constants: float) -> HumanAlgorithm:
    """The module's source with its upper-case constants replaced."""
    source = (files(__package__) / f"{module}.py").read_text(encoding="utf-8")
    for name, value in constants.items():
        source, found = re.subn(rf"^{name} = .*$", f"{name} = {value!r}", source, flags=re.MULTILINE)
        if found != 1:
            raise AssertionError(f"{module}.py has no constant {name}")
    return HumanAlgorithm(label, source)
