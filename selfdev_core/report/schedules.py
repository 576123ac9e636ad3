"""The temperature ablation as the report shows it: one row per schedule, the campaign's own first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from selfdev_core.records import Scorecard
from selfdev_core.report.standing import card_of, winner_of
from selfdev_core.result import CampaignResult, Interval, IterationResult
from selfdev_core.schedules import TemperatureConfig
from selfdev_core.statistics.intervals import mean_difference


class ScheduleRow(NamedTuple):
    """One arm. Shares are of all samples that it drew in the iterations which the campaign planned; `mean` is of the last."""

    name: str
    told: str
    temperatures: tuple[float, ...]
    evaluated: int
    valid: float
    distinct: float
    mean: float
    gain: Interval | None
    """Mean of the last common iteration, this arm minus the campaign's; None on the campaign's own row."""
    search: Scorecard | None
    validation: Scorecard | None


def schedules(result: CampaignResult) -> list[ScheduleRow]:
    """Empty without an ablation."""
    own = [r for r in result.iterations if r.arm == "trained"]
    if not result.ablation or not own:
        return []
    winner = winner_of(result)
    cards = [card_of(winner, split) if winner else None for split in ("search", "validation")]
    evaluated = sum(r.evaluated for r in own)
    rows = [_row("the campaign's", _configured(result), own, own, evaluated, cards, result)]
    for arm in result.ablation:
        cards = [card_of(arm.best, split) if arm.best else None for split in ("search", "validation")]
        told = f"{_told(arm.schedule)}{'' if arm.evaluated >= evaluated else '; fell short of the equal number'}"
        rows.append(_row(arm.name, told, arm.iterations[: len(own)], own, arm.evaluated, cards, result))
    return rows


def _row(
    name: str,
    told: str,
    rounds: Sequence[IterationResult],
    own: Sequence[IterationResult],
    evaluated: int,
    cards: Sequence[Scorecard | None],
    result: CampaignResult,
) -> ScheduleRow:
    drawn = sum(r.samples for r in rounds) or 1
    seed = result.config.get("seed")
    last = min(len(rounds), len(own)) - 1
    gain = None
    if rounds is not own and last >= 0 and rounds[last].sample_scores and own[last].sample_scores:
        gain = mean_difference(
            rounds[last].sample_scores, own[last].sample_scores, seed=seed if isinstance(seed, int) and seed >= 0 else 0
        )
    return ScheduleRow(
        name=name,
        told=told,
        temperatures=tuple(r.temperature for r in rounds),
        evaluated=evaluated,
        valid=sum(r.valid_share * r.samples for r in rounds) / drawn,
        distinct=sum(r.distinct_share * r.samples for r in rounds) / drawn,
        mean=rounds[last].mean_score if last >= 0 else 0.0,
        gain=gain,
        search=cards[0],
        validation=cards[1],
    )


def _configured(result: CampaignResult) -> str:
    factory = result.config.get("factory")
    given = factory.get("temperature") if isinstance(factory, dict) else None
    try:
        return _told(TemperatureConfig.model_validate(given))
    except ValueError:
        return ""


def _told(schedule: TemperatureConfig) -> str:
    return schedule.schedule if schedule.schedule == "constant" else f"decay, rate {schedule.rate:g}"
