"""The command `selfdev baselines`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

console = Console()


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(baselines)


def baselines(
    file: Annotated[Path, typer.Argument(metavar="CAMPAIGN.yaml", help="Campaign file; see `selfdev init`.")],
) -> None:
    """Score what a campaign must beat: the seed, the experts and the human-designed merges, without the search.

    Every grid point of `controls` answers the search questions, the best of each method the validation questions too; no test
    question is asked. What is scored here the campaign finds done.
    """
    from flows.run import run_flow
    from selfdev_core.baselines import Baselines, score_of
    from selfdev_core.config import load_campaign
    from selfdev_core.home import campaign_folder

    config = load_campaign(file)
    # Under a name of its own: status, ledger and budget stay apart from the campaign's. Records are found by content.
    # Without other model sets, which have baselines of their own: nothing of them is looked at, let alone downloaded.
    config = config.model_copy(update={"name": f"{config.name}-baselines", "transfer": {}})

    def start() -> None:
        from flows.baselines import baselines

        baselines(config)

    run_flow(config, start, ["selfdev", "baselines", str(file)], console)
    folder = campaign_folder(config.name)
    found = Baselines.model_validate_json((folder / "baselines.json").read_text(encoding="utf-8"))
    table = Table(title=f"{config.name}: right answers, % (95 % interval)", title_justify="left")
    table.add_column("method or model")
    for split in ("search", "validation"):
        table.add_column(split, justify="right")
    for row in found.rows:
        table.add_row(row.label, score_of(row.search), score_of(row.validation))
    console.print(table)
    console.print(f"Table  {folder / 'baselines.md'}", highlight=False, soft_wrap=True)
