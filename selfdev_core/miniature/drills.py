"""Bare equations: they grow the arithmetic circuits that make experts compose when their weights are merged."""

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
