"""Tables on the terminal: the outcome, the leaderboard, one program, the state of campaigns."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import NamedTuple

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from selfdev_core.assemble import campaign_folder
from selfdev_core.errors import ConfigError
from selfdev_core.home import selfdev_home
from selfdev_core.records import Scorecard
from selfdev_core.report.answer import answer
from selfdev_core.result import CampaignResult, Contender
from selfdev_core.sandbox.flags import MEANING

_ALIVE_SECONDS = 60.0


def print_outcome(result: CampaignResult, console: Console) -> None:
    """What a campaign found, in a few lines, and where to look next."""
    console.print()
    print_leaderboard(result, 8, console)
    console.print(f"\n{answer(result).sentence}\n", highlight=False)
    if result.stopped_by:
        console.print(f"{result.stopped_by.told}\n", highlight=False)
    console.print(f"Report  {campaign_folder(result.name) / 'report.html'}", highlight=False, soft_wrap=True)
    console.print(
        f"Next    selfdev show {result.name} -a winner   ·   selfdev export {result.name}   ·   selfdev server stop",
        highlight=False,
        soft_wrap=True,
    )


def print_leaderboard(result: CampaignResult, top: int, console: Console) -> None:
    """Best validation score first; the winner is marked."""
    table = Table(title=f"{result.name}: {'finished' if result.finished else 'in progress'}", title_justify="left")
    for column in ("", "program or model", "search", "validation", "test"):
        table.add_column(column, justify="left" if column in ("", "program or model") else "right")
    for row in standings(result)[:top]:
        table.add_row(*row)
    console.print(table)
    if result.test_openings:
        console.print(
            f"★ winner by validation score; test split opened {result.test_openings} time(s)", highlight=False
        )


class Standing(NamedTuple):
    """A row of the leaderboard as it is shown: ★ on the winner, scores in per cent."""

    mark: str
    label: str
    search: str
    validation: str
    test: str


def standings(result: CampaignResult) -> list[Standing]:
    """Best first: by validation score, before the finalists by search score."""
    if not result.leaderboard:
        return _so_far(result)
    return [
        Standing(
            "★" if row.subject == result.winner else "",
            row.label,
            *(_score(card) for card in (row.search, row.validation, row.test)),
        )
        for row in result.leaderboard
    ]


def print_program(result: CampaignResult, row: Contender, console: Console) -> None:
    """One program: scores, verdict, source."""
    console.print(f"[bold]{row.subject}[/bold]  {row.label}", highlight=False)
    for split in ("search", "validation", "test"):
        card: Scorecard | None = getattr(row, split)
        if card is not None:
            console.print(
                f"  {split:<11}{card.told} of {len(card.outcomes)} questions, {card.unparsable:.1%} unparsable",
                highlight=False,
            )
    for one in result.iterations:
        for c in one.candidates:
            if c.algorithm_id == row.subject:
                detail = f", {c.verdict.detail}" if c.verdict.detail else ""
                console.print(
                    f"  drawn {c.copies}× in {one.arm} iteration {one.iteration}: {c.verdict.reason}{detail}, "
                    f"search score {c.score:.1%}",
                    highlight=False,
                    markup=False,
                )
                for flag in c.verdict.flags:
                    console.print(f"    note {flag}: {MEANING[flag]}", highlight=False, markup=False)
    console.print(Syntax(row.source, "python", theme="ansi_dark", word_wrap=True))


def print_status(name: str | None, console: Console) -> None:
    """One line per campaign. Raises: ConfigError when the named one is unknown."""
    root = selfdev_home() / "campaigns"
    folders = [campaign_folder(name)] if name else sorted(p for p in root.glob("*") if p.is_dir())
    table = Table("campaign", "state", "stage", "best", "updated")
    for folder in folders:
        try:
            state = json.loads((folder / "status.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            if name:
                raise ConfigError(f"no campaign named {name!r} in {selfdev_home()}") from None
            continue
        age = time.time() - state["updated"]
        alive = state["state"] != "running" or age < _ALIVE_SECONDS
        shown = state["state"] if alive else "silent (killed, or in one long step)"
        ago = str(timedelta(seconds=int(age)))
        table.add_row(
            folder.name,
            shown,
            f"{state['stage']} {state['done']}/{state['total']}",
            f"{state['best']:.1%}",
            f"{ago} ago",
        )
    if table.row_count:
        console.print(table)
    else:
        console.print(f"No campaign in {selfdev_home()} yet. Try: selfdev demo", highlight=False)


def _so_far(result: CampaignResult) -> list[Standing]:
    """Before the finalists: candidates by search score."""
    seen: dict[str, tuple[float, str]] = {}
    for one in result.iterations:
        for c in one.candidates:
            if c.verdict.accepted:
                seen.setdefault(c.algorithm_id, (c.score, f"{one.arm} {c.algorithm_id}"))
    best_first = sorted(seen.values(), key=lambda pair: -pair[0])
    return [Standing("", label, f"{score:.1%}", "–", "–") for score, label in best_first]


def _score(card: Scorecard | None) -> str:
    return card.told if card else "–"
