"""`selfdev cost`: what a campaign took, from its ledger, as a table or as JSON."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from selfdev_core.assemble import load_result
from selfdev_core.caps import BudgetConfig
from selfdev_core.config import CampaignConfig, load_campaign
from selfdev_core.errors import ConfigError
from selfdev_core.home import selfdev_home
from selfdev_core.ledger import Ledger, StageTotal, read_ledger
from selfdev_core.ledger.files import journals
from selfdev_core.result import CampaignResult
from selfdev_core.store.artifacts import ArtifactStore

_HOUR = 3600.0
_NONE = "–"
_MEASURES = (
    *("units", "time", "on top", "programs", "questions", "tokens"),
    *("found", "retries", "remade", "repeated"),
)
_ORDER = ("generate", "validate", "merge", "evaluate", "pairs", "train")


class Account(NamedTuple):
    """A campaign's ledger, its prices, and what its last result says (None when it has none)."""

    ledger: Ledger
    budget: BudgetConfig
    result: CampaignResult | None

    @property
    def device_hours(self) -> dict[str, float]:
        """Device → hours held, over all stages."""
        total: dict[str, float] = {}
        for stage in self.ledger.stages.values():
            for device, seconds in stage.occupied.items():
                total[device] = total.get(device, 0.0) + seconds / _HOUR
        return total

    @property
    def money(self) -> float | None:
        """Device hours times their price; None without a price."""
        price = self.budget.price_per_device_hour
        return None if price is None else price * sum(self.device_hours.values())

    @property
    def uncounted(self) -> str:
        """A sentence when the campaign, or a part of it, ran before there was a ledger; else nothing."""
        if self.result is None:
            return ""
        if not self.ledger.runs:
            return "The campaign ran before it had a ledger; these are the figures of its report."
        since = self.ledger.runs[0].began
        if datetime.fromisoformat(self.result.started_at).timestamp() >= since - 60.0:
            return ""
        return f"The campaign began before its ledger, which counts since {_moment(since)}; the report has the rest."


def account(campaign: str) -> Account:
    """The account of a campaign, given by name or by its file.

    Raises: ConfigError when nothing is known of it; StoreError when its store does not answer.
    """
    path = Path(campaign)
    config = load_campaign(path) if path.suffix in (".yaml", ".yml") else None
    name = config.name if config else campaign
    try:
        result = load_result(name)
    except ConfigError:
        if config is None and not journals(name):
            raise
        result = None
    if config is None and result is not None:
        config = CampaignConfig.model_validate(result.config)
    ledger = read_ledger(name, ArtifactStore((config and config.store) or selfdev_home() / "store"))
    if result is not None and not ledger.runs:  # it ran before there was a ledger: its report's figures
        before = {stage: StageTotal(cost=cost) for stage, cost in result.costs.items()}
        ledger = ledger.model_copy(update={"stages": before})
    return Account(ledger, config.budget if config else BudgetConfig(), result)


def print_cost(campaign: str, as_json: bool, console: Console) -> None:
    """Print the account of a campaign. Raises what `account` raises."""
    found = account(campaign)
    if as_json:
        console.print_json(json.dumps(_plain(found)))
        return
    console.print(_table(found.ledger))
    for line in _lines(found):
        console.print(line, highlight=False, markup=False)


def _table(ledger: Ledger) -> Table:
    """A column per stage, so that it fits a narrow window; a measure of which no stage has anything is left out. Device hours
    have a row per device."""
    table = Table(title=f"{ledger.campaign}: finished work, each unit once", title_justify="left")
    stages = {name: _row(stage) for name, stage in _ordered(ledger)}
    table.add_column(min_width=9, overflow="fold")
    for name in stages:
        table.add_column(name, justify="right", no_wrap=True)
    measures = dict.fromkeys(name for cells in stages.values() for name in cells if name not in _MEASURES)
    for measure in (*_MEASURES[:3], *measures, *_MEASURES[3:]):
        found = [cells.get(measure, _NONE) for cells in stages.values()]
        if set(found) != {_NONE}:
            table.add_row(measure, *found)
    if not stages:
        table.add_row("nothing counted yet")
    return table


def _row(stage: StageTotal) -> dict[str, str]:
    held = {f"{device} hours": f"{seconds / _HOUR:.3f}" for device, seconds in stage.occupied.items()}
    cost = stage.cost
    cells = (
        f"{stage.units:,}",
        _duration(cost.seconds),
        _duration(stage.overhead_seconds) if stage.overhead_seconds >= 0.05 else _NONE,
        *(
            f"{amount:,}" if amount else _NONE
            for amount in (cost.programs, cost.questions, cost.tokens, stage.hits, stage.retries, stage.remade)
        ),
        f"{stage.repeated:,}",  # also when it is 0
    )
    return dict(zip(_MEASURES, cells, strict=True)) | held


def _lines(found: Account) -> list[str]:
    ledger, money = found.ledger, found.money
    hours = ", ".join(f"{value:.3f} on {device}" for device, value in found.device_hours.items()) or "none"
    lines = [
        f"{len(ledger.runs)} run(s), {ledger.kills} of them killed; wall time {_duration(ledger.wall_seconds)}",
        f"Device hours: {hours}",
    ]
    if money is not None:
        budget = found.budget
        lines.append(f"Money: {money:,.2f} {budget.currency} at {budget.price_per_device_hour:g} per device hour")
    if found.uncounted:
        lines.append(found.uncounted)
    if ledger.unreadable:
        lines.append(f"{ledger.unreadable} line(s) or segment(s) of the ledger are damaged and not counted.")
    if found.result and found.result.stopped_by:
        lines.append(found.result.stopped_by.told)
    return lines


def _plain(found: Account) -> dict[str, object]:
    ledger = found.ledger
    return {
        "campaign": ledger.campaign,
        "stages": {name: stage.model_dump(mode="json") for name, stage in _ordered(ledger)},
        "runs": [run.model_dump(mode="json") for run in ledger.runs],
        "kills": ledger.kills,
        "retries": ledger.retries,
        "hits": ledger.hits,
        "repeated": ledger.repeated,
        "repeated_evaluations": ledger.repeated_evaluations,
        "wall_hours": ledger.wall_seconds / _HOUR,
        "device_hours": found.device_hours,
        "money": found.money,
        "currency": found.budget.currency,
        "unreadable": ledger.unreadable,
        "uncounted": found.uncounted,
        "stopped_by": found.result.stopped_by.model_dump() if found.result and found.result.stopped_by else None,
    }


def _ordered(ledger: Ledger) -> list[tuple[str, StageTotal]]:
    known = [name for name in _ORDER if name in ledger.stages]
    return [(name, ledger.stages[name]) for name in (*known, *sorted(set(ledger.stages) - set(known)))]


def _duration(seconds: float) -> str:
    """`12.3 s`, `1:30:00`, `123:04:05` (hours)."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{seconds:.1f} s" if seconds < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _moment(when: float) -> str:
    return datetime.fromtimestamp(when).astimezone().isoformat(sep=" ", timespec="minutes")
