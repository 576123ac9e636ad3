"""How far a measured score can be trusted: intervals and tests on the answers to a set of questions.

All functions are pure and work on shares (0 to 1) and differences of shares (−1 to 1). They speak of the questions, or
of the programs drawn, as a random sample; none of them corrects for having picked the best of many. That is what the
validation and test splits are for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import comb, isfinite, sqrt
from statistics import NormalDist

from selfdev_core.records import Scorecard
from selfdev_core.result import Interval

RESAMPLES = 4000
_VALUES_AT_ONCE = 4_000_000


def wilson(right: int, total: int, level: float = 0.95) -> Interval:
    """Score interval of a proportion; `value` is right / total.

    It never leaves 0 to 1 and has width at 0 and at `total` right answers, where the textbook interval has none.
    Source: Wilson (1927), JASA 22:209–212; recommended by Brown, Cai and DasGupta (2001), Statistical Science 16:101.
    Raises: ValueError when total < 1, right is not within 0 … total, or level is not within 0 … 1.
    """
    if total < 1 or not 0 <= right <= total:
        raise ValueError(f"need 0 <= right <= total and total >= 1, got right={right}, total={total}")
    z = _z(level)
    share = right / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    low = 0.0 if right == 0 else max(0.0, middle - half)
    high = 1.0 if right == total else min(1.0, middle + half)
    return Interval(value=share, low=low, high=high, level=level)


def paired_difference(a: Scorecard, b: Scorecard, level: float = 0.95) -> Interval:
    """Accuracy of `a` minus accuracy of `b` on the same questions, with Tango's score interval.

    Only questions that one of the two got right and the other did not carry information on the sign; the interval is
    the set of differences that the score test with the restricted maximum-likelihood nuisance parameter does not
    reject. With no such question among n it is ± z² / (n + z²): equal as far as n questions can tell.
    Source: Tango (1998), Statistics in Medicine 17:891–908; reviewed against its competitors by Fagerland, Lydersen
    and Laake (2014), Statistics in Medicine 33:2850–2875.
    Raises: ValueError when the two were not asked the same questions, or level is not within 0 … 1.
    """
    only_a, only_b = _discordant(a, b)
    n = len(a.outcomes)
    z = _z(level)
    return Interval(
        value=(only_a - only_b) / n,
        # The lower limit of a − b is the mirrored upper limit of b − a: one solver, exact symmetry under a swap.
        low=-_tango_upper(only_b, only_a, n, z),
        high=_tango_upper(only_a, only_b, n, z),
        level=level,
    )


def mcnemar_exact(a: Scorecard, b: Scorecard) -> float:
    """Two-sided exact McNemar test that `a` and `b` are equally accurate on the same questions: the p-value, 0 to 1.

    A sign test on the questions that exactly one of the two got right; 1.0 when there is none.
    Source: McNemar (1947), Psychometrika 12:153–157, with the binomial distribution in place of chi-square.
    Raises: ValueError when the two were not asked the same questions.
    """
    only_a, only_b = _discordant(a, b)
    n = only_a + only_b
    tail = sum(comb(n, k) for k in range(min(only_a, only_b) + 1))
    return min(1.0, 2 * tail / (1 << n))


def mean_difference(xs: Sequence[float], ys: Sequence[float], seed: int, level: float = 0.95) -> Interval:
    """Mean of `xs` minus mean of `ys`, two independent samples of scores, with a percentile-bootstrap interval.

    Each sample is redrawn 4000 times with replacement; equal inputs and seed give an equal interval. A sample of one
    says nothing of its spread, so with one the interval is the whole range, −1 to 1. The bootstrap cannot see values
    that were not drawn: two constant samples give an interval without width.
    Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapters 8 and 13.
    Raises: ValueError when a sample is empty or holds a value outside 0 … 1, or level is not within 0 … 1.
    """
    import numpy as np

    _z(level)
    for name, values in (("xs", xs), ("ys", ys)):
        if not values:
            raise ValueError(f"mean_difference: {name} is empty; there is no mean to compare")
        for value in values:
            if not (isfinite(value) and 0.0 <= value <= 1.0):
                raise ValueError(f"mean_difference: {name} holds {value}; scores are within 0 and 1")
    difference = sum(xs) / len(xs) - sum(ys) / len(ys)
    if min(len(xs), len(ys)) < 2:
        return Interval(value=difference, low=-1.0, high=1.0, level=level)
    generator = np.random.default_rng(seed)
    means = []
    for values in (xs, ys):
        data = np.asarray(values, dtype=np.float64)
        rows = max(1, _VALUES_AT_ONCE // len(data))
        parts = [
            data[generator.integers(0, len(data), size=(min(rows, RESAMPLES - start), len(data)))].mean(axis=1)
            for start in range(0, RESAMPLES, rows)
        ]
        means.append(np.concatenate(parts))
    tail = (1 - level) / 2
    low, high = np.quantile(means[0] - means[1], [tail, 1 - tail])
    return Interval(value=difference, low=float(low), high=float(high), level=level)


def _z(level: float) -> float:
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    return float(NormalDist().inv_cdf((1 + level) / 2))


def _discordant(a: Scorecard, b: Scorecard) -> tuple[int, int]:
    """Questions that only `a`, and only `b`, got right. A wrong and an unparsable answer are both not right."""
    if (a.split, a.questions_sha256, len(a.outcomes)) != (b.split, b.questions_sha256, len(b.outcomes)):
        raise ValueError(
            f"{a.subject} and {b.subject} were not asked the same questions: "
            f"{a.split} {a.questions_sha256} ({len(a.outcomes)}) and "
            f"{b.split} {b.questions_sha256} ({len(b.outcomes)}); "
            "score both on one question set before comparing them"
        )
    if not a.outcomes:
        raise ValueError(f"{a.subject} and {b.subject} were asked no questions ({a.split} {a.questions_sha256})")
    pairs = [(x == "right", y == "right") for x, y in zip(a.outcomes, b.outcomes, strict=True)]
    return pairs.count((True, False)), pairs.count((False, True))


def _tango_upper(more: int, less: int, n: int, z: float) -> float:
    """The largest difference that the score test does not reject: where its statistic falls to −z."""

    def statistic(delta: float) -> float:
        # Restricted estimate of the probability of `less`, given the difference: the larger root of a quadratic.
        linear = -more - less + (2 * n - more + less) * delta
        constant = -less * delta * (1 - delta)
        root = sqrt(max(0.0, linear * linear - 8 * n * constant))
        # Both forms are the same root; each loses digits where the other does not.
        q = (root - linear) / (4 * n) if linear <= 0 else -2 * constant / (root + linear)
        variance = n * (2 * q + delta * (1 - delta))
        gap = more - less - n * delta
        return gap / sqrt(variance) if variance > 0 else (0.0 if gap == 0 else float("-inf"))

    return _falls_to(statistic, -z, (more - less) / n, 1.0)


def _falls_to(function: Callable[[float], float], target: float, low: float, high: float) -> float:
    """Where a falling function passes `target`, by bisection; `high` when it stays above."""
    if function(high) >= target:
        return high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > target else (low, middle)
    return (low + high) / 2
