"""Drills: they grow the circuits that make experts compose when their weights are merged.

Bare equations grow arithmetic. Chains (problems without words) grow the copying of numbers from a question and from the
line before, which is where merged models slip first.
"""

from __future__ import annotations

import random


def equation(rng: random.Random) -> tuple[str, str]:
    """One equation of the word problems' ranges as (left side with `=`, result), e.g. `("7*8=", "56")`."""
    operator = rng.choice("++++-----*//")
    if operator == "+":
        a, b = rng.choice(((81, 20), (20, 60), (20, 20)))
        left, right = rng.randint(1, a), rng.randint(1, b)
        return f"{left}+{right}=", str(left + right)
    if operator == "-":
        a, b = rng.choice(((81, 20), (20, 80), (20, 20)))
        right, rest = rng.randint(1, a), rng.randint(0, b)
        return f"{right + rest}-{right}=", str(rest)
    if operator == "*":
        if rng.random() < 0.25:
            right = rng.randint(2, 40)
            return f"2*{right}=", str(2 * right)
        left, right = rng.randint(2, 9), rng.randint(2, 9)
        return f"{left}*{right}=", str(left * right)
    divisor, result = (2, rng.randint(2, 20)) if rng.random() < 0.35 else (rng.randint(2, 9), rng.randint(2, 9))
    return f"{divisor * result}/{divisor}=", str(result)


def chain(rng: random.Random) -> tuple[str, str]:
    """A wordless problem of two equations as (question, worked solution), e.g. `("b = 3 * 6. c = b + 5. c?", …)`."""
    first, second = rng.sample("abcdefghkmnpqrstuvwxyz", 2)
    operator = rng.choice("++--**/")
    if operator == "+":
        x, y = rng.randint(1, 30), rng.randint(1, 20)
        value = x + y
    elif operator == "-":
        y, value = rng.randint(1, 20), rng.randint(1, 30)
        x = value + y
    elif operator == "*":
        x, y = rng.randint(2, 9), rng.randint(2, 9)
        value = x * y
    else:
        y, value = rng.randint(2, 9), rng.randint(2, 9)
        x = y * value
    opening = f"{first} = {x} {operator} {y}."
    start = f"{x}{operator}{y}={value}"
    roll = rng.random()
    if roll < 0.4:
        z = rng.randint(1, 20)
        return f"{opening} {second} = {first} + {z}. {second}?", _solution(start, f"{value}+{z}", value + z)
    if roll < 0.7 and value > 1:
        z = rng.randint(1, min(20, value - 1))
        return f"{opening} {second} = {first} - {z}. {second}?", _solution(start, f"{value}-{z}", value - z)
    if roll < 0.85:
        return f"{opening} {second} = {x} + {first}. {second}?", _solution(start, f"{x}+{value}", x + value)
    n = value + rng.randint(1, 20)
    return f"{opening} {second} = {n} - {first}. {second}?", _solution(start, f"{n}-{value}", n - value)


def _solution(start: str, left: str, result: int) -> str:
    return f"{start}\n{left}={result}\n#### {result}"
