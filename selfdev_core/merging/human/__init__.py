"""Human-designed merge algorithms, each a program under the candidates' own contract, with its grid.

They go through the same sandbox, merging and evaluation as a discovered program; only the constants are set here. A program
stands for itself, so what several need (the election of signs, say) stands in each of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import NamedTuple

from selfdev_core.grids import METHODS, HumanGrids, HumanMethod


class HumanAlgorithm(NamedTuple):
    """One grid point: the method's name for people, that name with the constants, and the program."""

    method: str
    label: str
    source: str


# Method → its name for people, and the constants that a grid point sets, in order. Its program is in the file of that name.
_KNOWN: dict[HumanMethod, tuple[str, tuple[str, ...]]] = {
    "linear": ("linear", ("SEED_WEIGHT",)),
    "slerp": ("SLERP", ("T", "COEFFICIENT")),
    "task_arithmetic": ("task arithmetic", ("COEFFICIENT",)),
    "ties": ("TIES", ("DENSITY", "COEFFICIENT")),
    "dare": ("DARE", ("DROP", "COEFFICIENT")),
    "dare_ties": ("DARE-TIES", ("DROP", "COEFFICIENT")),
    "model_stock": ("Model Stock", ()),
    "breadcrumbs": ("Breadcrumbs", ("DENSITY", "GAMMA", "COEFFICIENT")),
    "breadcrumbs_ties": ("Breadcrumbs-TIES", ("DENSITY", "GAMMA", "COEFFICIENT")),
    "della_linear": ("DELLA-linear", ("DENSITY", "EPSILON", "COEFFICIENT")),
    "della": ("DELLA", ("DENSITY", "EPSILON", "COEFFICIENT")),
}


def human_algorithms(grids: HumanGrids) -> list[HumanAlgorithm]:
    """Every grid point of the configured methods, method by method."""
    return [one for method in METHODS if method in grids.human for one in _grid(method, grids)]


def program(method: HumanMethod, **constants: float) -> str:
    """The method's program, with these of its upper-case constants replaced."""
    source = (files(__package__) / f"{method}.py").read_text(encoding="utf-8")
    for name, value in constants.items():
        source, found = re.subn(rf"^{name} = .*$", f"{name} = {value!r}", source, flags=re.MULTILINE)
        if found != 1:
            raise AssertionError(f"{method}.py has no constant {name}")
    return source


def _grid(method: HumanMethod, grids: HumanGrids) -> Iterator[HumanAlgorithm]:
    name, constants = _KNOWN[method]
    points = getattr(grids, method) if constants else ((),)
    for point in points:
        values = point if isinstance(point, tuple) else (point,)
        label = f"{name} {'/'.join(f'{value:g}' for value in values)}".strip()
        yield HumanAlgorithm(name, label, program(method, **dict(zip(constants, values, strict=True))))
