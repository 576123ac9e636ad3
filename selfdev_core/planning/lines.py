"""One thing that a campaign needs: how much, at most how much, and how that was computed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

GB = 1e9


class Line(NamedTuple):
    """`expected` and `at_most` in `unit`; None where that cannot be said. `how` is the computation in words."""

    group: str
    what: str
    expected: float | None
    at_most: float | None
    unit: str
    how: str


class Amount(NamedTuple):
    """A quantity as expected, and at most."""

    expected: float
    at_most: float

    def __add__(self, other: Amount) -> Amount:  # type: ignore[override]
        return Amount(self.expected + other.expected, self.at_most + other.at_most)

    def times(self, expected: float, at_most: float | None = None) -> Amount:
        """Both multiplied, the bound by `at_most` where that differs."""
        return Amount(self.expected * expected, self.at_most * (expected if at_most is None else at_most))


def exactly(value: float) -> Amount:
    return Amount(value, value)


def total(amounts: Iterable[Amount]) -> Amount:
    return sum(amounts, exactly(0.0))


def size_of(count: float) -> str:
    """Bytes for people: `3.5 MB`, `14.48 GB`."""
    return f"{count / GB:,.2f} GB" if count >= 0.1 * GB else f"{count / 1e6:,.1f} MB"
