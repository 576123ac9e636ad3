"""Transfer as the report shows it: an answer, comparisons and rows per model set, and one heatmap over all of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from selfdev_core.report.answer import Answer, answer
from selfdev_core.report.charts import svg, text_at, title_of
from selfdev_core.report.standing import Against, Row, comparisons, label_of, role_of
from selfdev_core.report.standing import rows as board_rows
from selfdev_core.report.words import counted, listed, percent, points, short, times
from selfdev_core.result import CampaignResult, Contender, TransferResult, TransferRow

FINALISTS_SHOWN = 8  # of each arm, in the heatmap
_POINT = re.compile(r" [\d./+-]+$")
_WIDTH, _ROW, _LABELS, _HEAD = 700, 24, 240, 26


class Move(NamedTuple):
    """One model set. `reach`: largest bound of its comparisons; `failed`: programs that cannot merge it."""

    result: TransferResult
    answer: Answer
    told: str
    found: list[Against]
    reach: float
    rows: list[Row]
    failed: list[TransferRow]


def moves(result: CampaignResult) -> list[Move]:
    return [_move(result, one) for one in result.transfers]


def _move(result: CampaignResult, one: TransferResult) -> Move:
    seen = result.model_copy(
        update={"leaderboard": one.rows, "comparisons": one.comparisons, "winner": one.winner, "budget": None}
    )
    found = comparisons(seen)
    bounds = [abs(v) for a in found for v in (a.comparison.difference.low, a.comparison.difference.high)]
    failed = [row for row in one.rows if row.verdict is not None and not row.verdict.accepted]
    said = answer(seen)
    if any(row.subject == one.winner for row in failed):
        said = Answer("No", "bad", "the winner cannot merge these models, so the test questions stayed sealed.")
    return Move(one, said, _told(one), found, max(bounds, default=0.0) or 1.0, board_rows(seen), failed)


def _told(one: TransferResult) -> str:
    """What was taken over, what was tuned, and how often the seal was opened."""
    renamed = [f"{own} as “{shown}”" for shown, own in one.names.items() if shown != own]
    parts = [f"{counted(len(one.finalists), 'finalist')} and {counted(one.human, 'human-designed grid point')}."]
    if renamed:
        parts.append(f"Programs found {listed([short(name) for name in renamed])}.")
    if one.test_openings:
        parts.append(f"For these models the test questions were opened {times(one.test_openings)}.")
    if one.same_test:
        parts.append("They are the campaign's own test questions, asked of other models.")
    return " ".join(parts)


class HeatRow(NamedTuple):
    """One algorithm over all model sets: validation score per set, or the reason why there is none."""

    label: str
    cells: tuple[float | str, ...]


class Heat(NamedTuple):
    """Columns are the campaign's own set and each target; `seeds` are their seed models' validation scores."""

    columns: tuple[str, ...]
    seeds: tuple[float | None, ...]
    rows: list[HeatRow]


def heat(result: CampaignResult) -> Heat:
    """Algorithms × model sets: finalists of both arms, human-designed methods at each set's best point, experts, seed."""
    sets: list[Sequence[Contender]] = [result.leaderboard, *(one.rows for one in result.transfers)]
    taken = {key for one in result.transfers for key in one.finalists}
    rows = []
    for role in ("trained", "untrained"):
        best = [row for row in result.leaderboard if role_of(row) == role and row.subject in taken]
        for row in best[:FINALISTS_SHOWN]:
            mark = "★ " if row.subject == result.winner else ""
            rows.append(HeatRow(f"{mark}{label_of(row)}", tuple(_cell(_find(one, row.subject)) for one in sets)))
    methods = dict.fromkeys(_method(row) for one in sets for row in one if row.kind == "human")
    rows += [HeatRow(f"{name}, tuned", tuple(_best(one, "human", name) for one in sets)) for name in methods]
    rows.append(HeatRow("best expert", tuple(_best(one, "expert") for one in sets)))
    rows.append(HeatRow("seed", tuple(_best(one, "seed") for one in sets)))
    seeds = tuple(cell if isinstance(cell, float) else None for cell in rows[-1].cells)
    return Heat(("this campaign", *(short(one.name, 24) for one in result.transfers)), seeds, rows)


def heatmap(result: CampaignResult) -> str:
    """The heatmap as SVG; empty without a transfer."""
    if not result.transfers:
        return ""
    found = heat(result)
    gains = [_gain(cell, seed) for row in found.rows for cell, seed in zip(row.cells, found.seeds, strict=True)]
    reach = max((abs(gain) for gain in gains if gain is not None), default=0.0) or 1.0
    wide = (_WIDTH - _LABELS) / len(found.columns)
    parts = [text_at(_LABELS + (i + 0.5) * wide, _HEAD - 10, name, "axis mid") for i, name in enumerate(found.columns)]
    for number, row in enumerate(found.rows):
        y = _HEAD + number * _ROW
        parts.append(text_at(_LABELS - 8, y + 16, short(row.label, 34), "axis end"))
        for i, (cell, seed) in enumerate(zip(row.cells, found.seeds, strict=True)):
            gain = _gain(cell, seed)
            css = "heat-none" if not gain else "heat-up" if gain > 0 else "heat-down"
            strength = 1.0 if not gain else 0.12 + 0.5 * abs(gain) / reach
            shown = percent(cell) if isinstance(cell, float) else cell
            told = f"{row.label} on {found.columns[i]}: {shown}" + (f", {points(gain)} on the seed" if gain else "")
            parts.append(
                f'<rect class="{css}" fill-opacity="{strength:.2f}" x="{_LABELS + i * wide + 1:.1f}" y="{y + 1}" '
                f'width="{wide - 2:.1f}" height="{_ROW - 2}">{title_of(told)}</rect>'
            )
            parts.append(text_at(_LABELS + (i + 0.5) * wide, y + 16, shown, "strong mid"))
    told = "; ".join(f"{row.label}: {', '.join(map(_plain, row.cells))}" for row in found.rows)
    return svg(
        parts, f"Validation scores on {listed(list(found.columns))}", told, _HEAD + _ROW * len(found.rows) + 4, _WIDTH
    )


def _find(rows: Sequence[Contender], subject: str) -> Contender | None:
    return next((row for row in rows if row.subject == subject), None)


def _cell(row: Contender | None) -> float | str:
    if row is None:
        return "—"
    if isinstance(row, TransferRow) and row.verdict is not None and not row.verdict.accepted:
        return row.verdict.reason
    return row.validation.score if row.validation else "—"


def _best(rows: Sequence[Contender], role: str, method: str = "") -> float | str:
    scores = [
        row.validation.score
        for row in rows
        if role_of(row) == role and row.validation and (not method or _method(row) == method)
    ]
    return max(scores, default="—") if scores else "—"


def _method(row: Contender) -> str:
    """What a human-designed algorithm is called without its grid point."""
    return short(_POINT.sub("", row.label))


def _gain(cell: float | str, seed: float | None) -> float | None:
    return cell - seed if isinstance(cell, float) and seed is not None else None


def _plain(cell: float | str) -> str:
    return percent(cell) if isinstance(cell, float) else cell
