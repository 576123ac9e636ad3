"""The human-designed methods of the section `controls`: which ones run, and over which constants.

Every method has a grid under its own name: a list of points. A point is the method's constants in order, one number or a
list of numbers; each point is one merge to evaluate. What the constants mean stands in the method's program in
`selfdev_core/merging/human/`.
"""

from __future__ import annotations

from itertools import product
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from selfdev_core.section import Section

HumanMethod = Literal[
    "linear",
    "slerp",
    "task_arithmetic",
    "ties",
    "dare",
    "dare_ties",
    "model_stock",
    "breadcrumbs",
    "breadcrumbs_ties",
    "della_linear",
    "della",
]
METHODS: tuple[HumanMethod, ...] = get_args(HumanMethod)

Coefficient = float
Density = Annotated[float, Field(gt=0.0, le=1.0)]
Dropped = Annotated[float, Field(ge=0.0, lt=1.0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class HumanGrids(Section):
    """Grids of the human-designed methods; the defaults are small, for the miniature."""

    human: tuple[HumanMethod, ...] = Field(
        METHODS, description="Human-designed methods that run beside the campaign; an empty list switches all off."
    )
    linear: tuple[Annotated[float, Field(ge=0.0)], ...] = Field(
        (0.0, 1.0), description="Linear (mean of the models) grid: weight of the seed, where each expert weighs 1."
    )
    slerp: tuple[tuple[Fraction, Coefficient], ...] = Field(
        ((0.5, 1.0),), description="SLERP grid: (share of the later expert, coefficient) pairs."
    )
    task_arithmetic: tuple[Coefficient, ...] = Field(
        (0.2, 0.4, 0.6, 0.8, 1.0),
        description="Coefficients of the task-arithmetic grid (the paper: 0.2, 0.4, 0.6); empty switches it off.",
    )
    ties: tuple[tuple[Density, Coefficient], ...] = Field(
        tuple(product((0.2, 0.4), (1.0, 1.4))),
        description="TIES grid: (density kept, coefficient) pairs; empty switches it off.",
    )
    dare: tuple[tuple[Dropped, Coefficient], ...] = Field(
        ((0.4, 0.6), (0.6, 0.6)), description="DARE grid: (drop rate, coefficient) pairs; empty switches it off."
    )
    dare_ties: tuple[tuple[Dropped, Coefficient], ...] = Field(
        ((0.4, 1.0), (0.6, 1.0)), description="DARE-TIES grid: (drop rate, coefficient) pairs."
    )
    breadcrumbs: tuple[tuple[Density, Fraction, Coefficient], ...] = Field(
        ((0.85, 0.01, 0.6), (0.85, 0.01, 0.8)),
        description="Breadcrumbs grid: (density kept, share of outliers masked, coefficient).",
    )
    breadcrumbs_ties: tuple[tuple[Density, Fraction, Coefficient], ...] = Field(
        ((0.85, 0.01, 1.0),),
        description="Breadcrumbs with sign election, grid: (density kept, share of outliers masked, coefficient).",
    )
    della_linear: tuple[tuple[Density, Fraction, Coefficient], ...] = Field(
        ((0.6, 0.1, 0.6),), description="DELLA without sign election, grid: (density, its spread ±, coefficient)."
    )
    della: tuple[tuple[Density, Fraction, Coefficient], ...] = Field(
        ((0.6, 0.1, 1.0), (0.4, 0.1, 1.0)), description="DELLA grid: (density, its spread ±, coefficient)."
    )

    @model_validator(mode="after")
    def _probabilities(self) -> Self:
        for name, grid in (("della_linear", self.della_linear), ("della", self.della)):
            for density, spread, _ in grid:
                if density - spread <= 0.0 or density + spread > 1.0:
                    raise ValueError(
                        f"{name}: density ± spread must lie above 0 and at most at 1, got {density:g} ± {spread:g}"
                    )
        return self
