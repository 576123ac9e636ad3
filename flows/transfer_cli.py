"""The command `selfdev transfer`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from selfdev_core.config import CampaignConfig
    from selfdev_core.result import TransferResult

console = Console()


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(transfer)


def transfer(
    campaign: Annotated[str, typer.Argument(help="Name of a finished campaign (the `name` in its file).")],
    to: Annotated[Path, typer.Option("--to", metavar="FILE.yaml", help="Model sets: name, models, questions, names.")],
    direct: Annotated[bool, typer.Option("--direct", help="In this process, without the Prefect server.")] = False,
) -> None:
    """Measure the finalists of a campaign, unchanged, on other models, beside human-designed merges tuned there.

    The file says what the section `transfer` of a campaign file says, e.g.  other: {models: {family: transfer}, questions:
    {family: transfer}}. Run again, it computes nothing anew; the report gets a table and a heatmap.
    """
    from flows.show import print_outcome
    from selfdev_core.assemble import load_result
    from selfdev_core.transfer_file import with_targets

    config = with_targets(load_result(campaign), to)
    if direct:
        _run_direct(config)
    else:
        from flows.run import run_flow

        def start() -> None:
            from flows.transfer import transfers

            transfers(config)

        run_flow(config, start, ["selfdev", "transfer", campaign, "--to", str(to)], console)
    result = load_result(campaign)
    for one in result.transfers:
        if one.name in config.transfer:
            console.print(table_of(one))
    print_outcome(result, console)


def table_of(one: TransferResult) -> Table:
    """One model set: verdicts and scores, best validation score first; the campaign's winner is marked."""
    table = Table(title=f"on {one.name}", title_justify="left")
    for column in ("", "program or model", "search", "validation", "test"):
        table.add_column(column, justify="left" if column in ("", "program or model") else "right")
    for row in one.rows:
        if row.verdict is not None and not row.verdict.accepted:
            table.add_row("", row.label, row.verdict.reason, "", "")
        elif row.validation is not None:
            scores = (card.told if card else "–" for card in (row.search, row.validation, row.test))
            table.add_row("★" if row.subject == one.winner else "", row.label, *scores)
    return table


def _run_direct(config: CampaignConfig) -> None:
    from selfdev_core.prepare import prepare
    from selfdev_core.stages.executor import DirectExecutor
    from selfdev_core.transfer import carry_over, run_transfer
    from selfdev_core.workspace import close_workspaces, workspace_of

    ready = prepare(config)
    workspace = workspace_of(ready.settings)
    executor = DirectExecutor(workspace)
    try:
        carry_over(ready, lambda spec: run_transfer(spec, executor, workspace))
    finally:
        close_workspaces(ready.settings)
