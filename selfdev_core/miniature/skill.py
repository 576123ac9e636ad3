"""What a skill is: a kind of word problem with the ways it is asked and the equations that solve it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

# (left, operator, right); an operand is the name of a number, a literal, or `_` for the result before it
Step = tuple[str, str, str]
Numbers = Callable[[random.Random], dict[str, int]]


class Form(NamedTuple):
    """One way a skill is asked: its template (see `wording`), its numbers and its steps."""

    template: str
    numbers: Numbers
    steps: tuple[Step, ...]


class Skill(NamedTuple):
    """A named kind of word problem with its forms."""

    name: str
    forms: tuple[Form, ...]


def solve(steps: tuple[Step, ...], numbers: dict[str, int]) -> tuple[str, int]:
    """The worked solution, one equation a line and `#### N` at the end, with N itself."""
    lines: list[str] = []
    result = 0
    for left, operator, right in steps:
        a, b = (result if term == "_" else numbers[term] if term in numbers else int(term) for term in (left, right))
        result = a + b if operator == "+" else a - b if operator == "-" else a * b if operator == "*" else a // b
        lines.append(f"{a}{operator}{b}={result}")
    return "\n".join([*lines, f"#### {result}"]), result
