"""The command `selfdev plan`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from selfdev_core.config import CampaignConfig
    from selfdev_core.planning.lines import Line
    from selfdev_core.planning.rates import Rates
    from selfdev_core.planning.shapes import Shape

console = Console()


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(plan)


def plan(
    file: Annotated[Path, typer.Argument(metavar="CAMPAIGN.yaml", help="Campaign file; see `selfdev init`.")],
    like: Annotated[
        str | None,
        typer.Option(
            help="An earlier campaign with the same engine, whose measured rates are taken; of other models only the shares."
        ),
    ] = None,
    tokens_per_second: Annotated[
        float | None, typer.Option(min=0.001, help="Tokens that one device samples per second, all its texts together.")
    ] = None,
    evaluated_share: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Programs evaluated per program drawn (the paper: 0.03 to 0.1)."),
    ] = None,
    shape: Annotated[
        Path | None, typer.Option(help="A config.json, for models that nobody can be asked about (no network).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """What a campaign will need: downloads, disk, GPU memory, programs, questions, tokens, hours, money.

    Nothing is run and no model is downloaded: the Hub is asked for file lists and config.json, and none is kept. Every line says
    how it was computed; "expected" rests on rates that were stated, measured (--like) or else assumed, "at most" on the
    configuration alone.
    """
    from selfdev_core.config import load_campaign
    from selfdev_core.planning.facts import HOME
    from selfdev_core.planning.lookup import look_up
    from selfdev_core.planning.models import ask_hub
    from selfdev_core.planning.plan import plan as plan_of
    from selfdev_core.planning.shapes import read_shape

    config = load_campaign(file)
    facts = look_up(config, ask_hub, None if shape is None else read_shape(shape))
    seed = facts.models[HOME][0].shape
    lines = plan_of(config, facts, rates_of(config, like, tokens_per_second, evaluated_share, seed))
    if as_json:
        console.print_json(json.dumps([line._asdict() for line in lines]))
    else:
        console.print(table_of(config.name, lines))


def rates_of(
    config: CampaignConfig,
    like: str | None,
    tokens_per_second: float | None,
    evaluated_share: float | None,
    seed: Shape | None,
) -> Rates:
    """Stated rates, else measured ones, else assumed ones. `seed`: the shape of the campaign's seed, if it is known.

    Raises: ConfigError when `like` ran on another kind of engine.
    """
    from selfdev_core.assemble import load_result
    from selfdev_core.config import CampaignConfig
    from selfdev_core.errors import ConfigError
    from selfdev_core.home import selfdev_home
    from selfdev_core.ledger import read_ledger
    from selfdev_core.planning.lookup import answer_limit, seed_shape
    from selfdev_core.planning.models import ask_hub
    from selfdev_core.planning.rates import assumed, measured
    from selfdev_core.store.artifacts import ArtifactStore

    stated = assumed(tokens_per_second, evaluated_share)
    if like is None:
        return stated
    result = load_result(like)
    before = CampaignConfig.model_validate(result.config)
    if before.engine.kind != config.engine.kind:
        raise ConfigError(
            f"--like {like}: it ran on {before.engine.kind}, this campaign runs on {config.engine.kind}; rates of one engine say "
            "nothing of another: name another campaign, or give --tokens-per-second"
        )
    ledger = read_ledger(like, ArtifactStore(before.store or selfdev_home() / "store"))
    same = before.models.scope == config.models.scope and (
        _seed_of(before) == _seed_of(config) or (seed is not None and seed_shape(before.models, ask_hub) == seed)
    )
    return measured(result, ledger, before.factory.max_new_tokens, answer_limit(before.questions), stated, same)


def _seed_of(config: CampaignConfig) -> tuple[str | None, str | None]:
    """What a campaign's seed is called; of a repository whatever its revision."""
    from selfdev_core.merging.hub import is_repository

    family, seed = config.models.family, config.models.seed
    return family, seed.partition("@")[0] if seed and is_repository(seed) else seed


def table_of(name: str, lines: list[Line]) -> Table:
    table = Table(title=f"{name}: what it will need", title_justify="left")
    for column, right in (("", False), ("expected", True), ("at most", True), ("", False), ("how", False)):
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    group = ""
    for line in lines:
        if line.group != group:
            group = line.group
            table.add_section()
            table.add_row(f"[bold]{group}[/bold]")
        table.add_row(f"  {line.what}", _number(line.expected), _number(line.at_most), line.unit, line.how)
    return table


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    if value == int(value) or value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
