"""The numbers of the word problems and their common steps.

Sums and differences have one term of at most 20, products are of the times table: small models learn them well, so a
wrong answer is more often a misread problem, which is what the experts know and the seed does not.
"""

from __future__ import annotations

import random

from selfdev_core.miniature.skill import Step


def three_terms(rng: random.Random) -> dict[str, int]:
    return {"x": rng.randint(2, 20), "y": rng.randint(2, 20), "z": rng.randint(2, 20)}


def take_two(rng: random.Random) -> dict[str, int]:
    y, z = rng.randint(2, 15), rng.randint(2, 15)
    return {"x": y + z + rng.randint(1, 20), "y": y, "z": z}


def fewer(rng: random.Random) -> dict[str, int]:
    y = rng.randint(2, 15)
    return {"x": y + rng.randint(1, 20), "y": y, "z": rng.randint(2, 20)}


def product_then_more(rng: random.Random) -> dict[str, int]:
    return {"x": rng.randint(2, 9), "y": rng.randint(2, 9), "z": rng.randint(2, 20)}


def product_then_less(rng: random.Random) -> dict[str, int]:
    x, y = rng.randint(2, 9), rng.randint(2, 9)
    return {"x": x, "y": y, "z": rng.randint(1, min(20, x * y - 1))}


def product_inside(rng: random.Random) -> dict[str, int]:
    x, y = rng.randint(2, 9), rng.randint(2, 9)
    return {"x": x, "y": y, "n": x * y + rng.randint(1, 20)}


def even_then_more(rng: random.Random) -> dict[str, int]:
    return {"e": 2 * rng.randint(2, 20), "z": rng.randint(2, 20)}


def even_then_less(rng: random.Random) -> dict[str, int]:
    half = rng.randint(3, 20)
    return {"e": 2 * half, "z": rng.randint(1, half - 1)}


def double_then_less(rng: random.Random) -> dict[str, int]:
    x = rng.randint(3, 20)
    return {"x": x, "z": rng.randint(2, min(20, 2 * x - 1))}


def triple_then_less(rng: random.Random) -> dict[str, int]:
    x = rng.randint(3, 9)
    return {"x": x, "z": rng.randint(2, 3 * x - 1)}


def small(rng: random.Random) -> dict[str, int]:
    return {"x": rng.randint(2, 9)}


def sum_divides(rng: random.Random) -> dict[str, int]:
    k, each = rng.randint(2, 9), rng.randint(2, 9)
    x = rng.randint(1, min(20, k * each - 1))
    return {"x": x, "y": k * each - x, "k": k}


def divides_then_more(rng: random.Random) -> dict[str, int]:
    k, each = rng.randint(2, 9), rng.randint(2, 9)
    return {"m": k * each, "k": k, "z": rng.randint(2, 20)}


def divides_then_less(rng: random.Random) -> dict[str, int]:
    k, each = rng.randint(2, 9), rng.randint(3, 9)
    return {"m": k * each, "k": k, "z": rng.randint(1, each - 1)}


def divides_then_times(rng: random.Random) -> dict[str, int]:
    k, each = rng.randint(2, 9), rng.randint(2, 9)
    return {"m": k * each, "k": k, "c": rng.randint(2, 9)}


def sides(rng: random.Random) -> dict[str, int]:
    x, y = rng.randint(2, 20), rng.randint(2, 20)
    return {"x": x, "y": y, "z": rng.randint(1, 9)}


SUM: tuple[Step, ...] = (("x", "+", "y"), ("_", "+", "z"))
TIMES_MORE: tuple[Step, ...] = (("x", "*", "y"), ("_", "+", "z"))
TIMES_LESS: tuple[Step, ...] = (("x", "*", "y"), ("_", "-", "z"))
FROM_TIMES: tuple[Step, ...] = (("x", "*", "y"), ("n", "-", "_"))
