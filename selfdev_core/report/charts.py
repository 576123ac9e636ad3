"""The report's drawings, as inline SVG: coloured by the page's CSS, so they follow light, dark and print.

Hand-drawn rather than taken from a plotting library: the text stays text, the file stays small, and nothing of a
program or a name gets into the markup unescaped (`text_at` and `title_of` are the only doors).
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from math import ceil, floor

from selfdev_core.report.progress import ARMS, course, top_decile, valid_scores
from selfdev_core.report.standing import card_of, role_of
from selfdev_core.report.words import percent
from selfdev_core.result import CampaignResult, Interval, IterationResult

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 14, 46
BINS = 22


def distributions(result: CampaignResult) -> str:
    """Per iteration, the scores of the valid samples as two histograms back to back: untrained left, trained right."""
    numbers = sorted({r.iteration for r in result.iterations})
    by_key = {(r.iteration, r.arm): r for r in result.iterations}
    scores = [s for r in result.iterations for s in valid_scores(r)]
    if not scores:
        return ""
    low, high, ticks = _nice(min(scores), max(scores))
    floor_y = HEIGHT - BOTTOM - 20
    step = (WIDTH - LEFT - RIGHT) / len(numbers)
    half = min(step * 0.44, 70.0)

    def y(score: float) -> float:
        return floor_y - (score - low) / (high - low) * (floor_y - TOP)

    shares = {key: _histogram(valid_scores(item), low, high, item.samples) for key, item in by_key.items()}
    widest = max((max(h) for h in shares.values()), default=0.0) or 1.0
    parts = [_grid(ticks, y, WIDTH - RIGHT), text_at(LEFT - 6, floor_y + 18.5, "invalid", "tiny end")]
    tall = (floor_y - TOP) / BINS
    for place, number in enumerate(numbers):
        middle = LEFT + step * (place + 0.5)
        parts.append(
            text_at(middle, HEIGHT - 24, f"iteration {number}" if len(numbers) <= 5 else str(number), "axis mid")
        )
        parts.append(f'<line class="rule" x1="{middle:.1f}" x2="{middle:.1f}" y1="{TOP}" y2="{floor_y:.1f}"/>')
        for arm in ARMS:
            item = by_key.get((number, arm))
            if item is None:
                continue
            side = 1 if arm == "trained" else -1
            for row, share in enumerate(shares[number, arm]):
                if share:
                    long = max(1.0, half * share / widest)
                    x = middle + (0.5 if side > 0 else -0.5 - long)
                    parts.append(_bar(x, floor_y - (row + 1) * tall + 0.4, long, tall - 0.8, f"fill-{arm}"))
            parts.append(_invalid(item, middle, side, step, floor_y + 7))
            mean = sum(valid_scores(item)) / max(1, len(valid_scores(item)))
            if valid_scores(item):
                end = middle + side * min(half, step * 0.3)
                at = f"{y(mean):.1f}"
                parts.append(f'<line class="mean" x1="{middle:.1f}" x2="{end:.1f}" y1="{at}" y2="{at}"/>')
    return svg(parts, "Search scores of the valid programs drawn in each iteration", _distribution_words(result))


def best_so_far(result: CampaignResult) -> str:
    """Best search score after each evaluated program, one staircase per arm, beside the best model and human merge."""
    courses = {arm: course(result, arm) for arm in ARMS}
    bars = _references(result)
    values = [v for c in courses.values() for v in c.best] + [value for _, value, _ in bars]
    length = max(len(c.best) for c in courses.values())
    if not length:
        return ""
    low, high, ticks = _nice(min(values), max(values))
    floor_y, right = HEIGHT - BOTTOM, WIDTH - RIGHT

    def y(score: float) -> float:
        return floor_y - (score - low) / (high - low) * (floor_y - TOP)

    def x(programs: float) -> float:
        return LEFT + programs / length * (right - LEFT)

    parts = [_grid(ticks, y, right)]
    for start in courses["trained"].starts[1:]:
        parts.append(f'<line class="rule" x1="{x(start):.1f}" x2="{x(start):.1f}" y1="{TOP}" y2="{floor_y}"/>')
    for _, value, role in bars:
        parts.append(f'<line class="bar bar-{role}" x1="{LEFT}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
    for arm in reversed(ARMS):
        best = courses[arm].best
        if best:
            path = f"M{x(0):.1f},{y(best[0]):.1f}" + "".join(
                f"H{x(i + 1):.1f}" + (f"V{y(best[i + 1]):.1f}" if i + 1 < len(best) and best[i + 1] != v else "")
                for i, v in enumerate(best)
            )
            parts.append(f'<path class="stair line-{arm}" d="{path}"/>')
    for name, value, role in bars:  # Text last, so that no line crosses it.
        parts.append(
            text_at(
                right - 4,
                y(value) + (-6 if role == "human" else 15),
                f"{name} {percent(value)}",
                f"note end ink-{role}",
            )
        )
    for at in _nice_counts(length):
        parts.append(text_at(x(at), floor_y + 17, f"{at:,}", "axis mid"))
    parts.append(text_at((LEFT + right) / 2, HEIGHT - 8, "programs evaluated", "axis mid"))
    told = "; ".join(f"{arm} arm ends at {percent(c.best[-1])}" for arm, c in courses.items() if c.best)
    return svg(parts, "Best search score so far", f"After {length:,} evaluated programs: {told}.")


def shares(result: CampaignResult, which: str) -> str:
    """Valid or distinct share of the samples per iteration, one line per arm. `which`: valid or distinct."""
    numbers = sorted({r.iteration for r in result.iterations})
    if not numbers:
        return ""
    height = 200
    floor_y, right = height - 42, WIDTH - RIGHT - 14

    def y(share: float) -> float:
        return floor_y - share * (floor_y - TOP)

    def x(number: int) -> float:
        place = numbers.index(number)
        return LEFT + 26 + (right - LEFT - 40) * (place / (len(numbers) - 1) if len(numbers) > 1 else 0.5)

    parts = [_grid([0.0, 0.25, 0.5, 0.75, 1.0], y, WIDTH - RIGHT)]
    told = []
    for arm in reversed(ARMS):
        items = sorted((r for r in result.iterations if r.arm == arm), key=lambda r: r.iteration)
        values = [(r.iteration, r.valid_share if which == "valid" else r.distinct_share) for r in items]
        if not values:
            continue
        line = " ".join(f"{x(n):.1f},{y(v):.1f}" for n, v in values)
        parts.append(f'<polyline class="stair line-{arm}" points="{line}"/>')
        for n, v in values:
            mark = f"{arm}, iteration {n}: {percent(v)} {which}"
            parts.append(
                f'<circle class="dot fill-{arm}" cx="{x(n):.1f}" cy="{y(v):.1f}" r="4">{title_of(mark)}</circle>'
            )
        told.append(f"{arm}: {', '.join(percent(v) for _, v in values)}")
    for n in numbers:
        parts.append(text_at(x(n), floor_y + 17, str(n), "axis mid"))
    parts.append(text_at((LEFT + right) / 2, height - 6, "iteration", "axis mid"))
    return svg(parts, f"Share of {which} programs per iteration", "; ".join(told), height)


def whisker(interval: Interval, reach: float, kind: str = "") -> str:
    """One interval of a difference on a line from −reach to +reach, with 0 in the middle."""

    def x(value: float) -> float:
        return 100 + max(-1.0, min(1.0, value / reach)) * 94

    side = "above" if interval.low > 0 else "below" if interval.high < 0 else "open"
    return (
        f'<svg class="whisker {side}" viewBox="0 0 200 20" aria-hidden="true" focusable="false">'
        '<line class="zero" x1="100" x2="100" y1="0" y2="20"/>'
        f'<line class="reach" x1="{x(interval.low):.1f}" x2="{x(interval.high):.1f}" y1="10" y2="10"/>'
        f'<circle class="{kind or "point"}" cx="{x(interval.value):.1f}" cy="10" r="4.5"/></svg>'
    )


def _references(result: CampaignResult) -> list[tuple[str, float, str]]:
    """Best search score among plain models and among human-designed merges: name, score, CSS role."""
    found = []
    for name, roles, css in (
        ("best single model", ("seed", "expert"), "model"),
        ("best human merge", ("human",), "human"),
    ):
        scores = [card.score for c in result.leaderboard if role_of(c) in roles and (card := card_of(c, "search"))]
        if scores:
            found.append((name, max(scores), css))
    return found


def _distribution_words(result: CampaignResult) -> str:
    told = [
        f"iteration {r.iteration} {r.arm}: mean of all {percent(r.mean_score)}, "
        f"best tenth {percent(top_decile(r.sample_scores))}"
        for r in result.iterations
    ]
    return "; ".join(told) + "."


def _histogram(scores: list[float], low: float, high: float, samples: int) -> list[float]:
    """Share of the samples in each of `BINS` equal bins."""
    counts = [0] * BINS
    for score in scores:
        counts[min(BINS - 1, int((score - low) / (high - low) * BINS))] += 1
    return [c / max(1, samples) for c in counts]


def _invalid(item: IterationResult, middle: float, side: int, step: float, y: float) -> str:
    """Share of invalid samples as a bar; in figures too where there is room for them."""
    invalid = 1 - item.valid_share
    room = step / 2 - (36 if step >= 84 else 4)
    long = room * invalid
    bar = _bar(middle + (0.5 if side > 0 else -0.5 - long), y, long, 12, f"invalid-{item.arm}")
    if step < 84:
        return bar
    end = "start" if side > 0 else "end"
    return bar + text_at(middle + side * (long + 4), y + 10.5, percent(invalid, 0), f"tiny {end}")


def _nice(low: float, high: float) -> tuple[float, float, list[float]]:
    """Axis from a round score to a round score (0 to 1) with three to seven ticks between."""
    span = max(high - low, 0.04)
    step = next((s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.25) if span / s <= 6), 0.25)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    if last * step - high < 0.15 * step and last * step < 1:
        last += 1
    last = max(last, first + 1)
    ticks = [i * step for i in range(first, last + 1)]
    return ticks[0], ticks[-1], ticks


def _nice_counts(length: int) -> list[int]:
    step = next(s * 10**e for e in range(9) for s in (1, 2, 5) if length / (s * 10**e) <= 6)
    return list(range(0, length + 1, step))


def _grid(ticks: list[float], y: Callable[[float], float], right: float) -> str:
    return "".join(
        f'<line class="grid" x1="{LEFT}" x2="{right:.1f}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>'
        + text_at(LEFT - 6, y(t) + 4, percent(t, 0), "axis end")
        for t in ticks
    )


def _bar(x: float, y: float, wide: float, tall: float, css: str) -> str:
    return f'<rect class="{css}" x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}"/>'


def text_at(x: float, y: float, text: str, css: str) -> str:
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def title_of(text: str) -> str:
    return f"<title>{escape(text)}</title>"


def svg(parts: list[str], title: str, description: str, height: int = HEIGHT, width: int = WIDTH) -> str:
    label = escape(f"{title}. {description}", quote=True)
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{label}" '
        f'preserveAspectRatio="xMidYMid meet">{"".join(parts)}</svg>'
    )
