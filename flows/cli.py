"""The command line: one front door, thin calls into flows. Heavy libraries load inside the commands that need them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from flows import baselines_cli, deploy_cli, evaluate_cli, plan_cli, transfer_cli
from flows.vllm_cli import vllm_app
from selfdev_core.errors import SelfdevError

console = Console()
app = typer.Typer(
    name="selfdev",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="""Self-Developing: a language model invents algorithms that improve language models.

A copy of your seed model writes programs that merge its fine-tuned siblings into it. Each program runs in a sandbox, the
merged model answers questions, and DPO teaches the writer what worked; the loop repeats.

Start here:  [bold]selfdev demo[/bold]  runs a whole campaign on this machine in minutes.
Then:        [bold]selfdev show[/bold], [bold]selfdev report[/bold], [bold]selfdev export[/bold]; your own models:
             [bold]selfdev run CAMPAIGN.yaml[/bold] (write one with [bold]selfdev init[/bold]).

Campaigns that workers run, by schedule or from the Prefect UI:  [bold]selfdev deploy[/bold], [bold]selfdev worker[/bold].

Everything is kept in SELFDEV_HOME (by default ~/.selfdev). Every command may be interrupted and run again.""",
)
miniature_app = typer.Typer(no_args_is_help=True, help="The miniature model families that ship with the package.")
server_app = typer.Typer(no_args_is_help=True, help="The local Prefect server whose UI shows campaigns.")
app.add_typer(miniature_app, name="miniature")
app.add_typer(server_app, name="server")
store_app = typer.Typer(no_args_is_help=True, help="The artifact store.")
app.add_typer(store_app, name="store")
app.add_typer(vllm_app, name="vllm")

StoreOption = Annotated[
    str | None, typer.Option("--store", help="A folder or s3://bucket/prefix; by default the store in SELFDEV_HOME.")
]
CampaignName = Annotated[str, typer.Argument(help="Name of the campaign (the `name` in its file).")]


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="Campaign seed; another seed is another campaign.", min=0)] = 0,
) -> None:
    """Run the miniature campaign: the whole method on two CPU cores, a few minutes. Run again: all cached."""
    from importlib.resources import files

    from selfdev_core.config import load_campaign

    config = load_campaign(Path(str(files("deployments") / "campaigns" / "miniature.yaml")))
    if seed:
        config = config.model_copy(update={"seed": seed, "name": f"{config.name}-seed{seed}"})
    _run(config.model_dump_json(), ["selfdev", "demo", *(["--seed", str(seed)] if seed else [])])


@app.command()
def run(
    file: Annotated[Path, typer.Argument(metavar="CAMPAIGN.yaml", help="Campaign file; see `selfdev init`.")],
) -> None:
    """Run a campaign, or go on with it: whatever is finished comes from the store."""
    from selfdev_core.config import load_campaign

    _run(load_campaign(file).model_dump_json(), ["selfdev", "run", str(file)])


def _run(config_json: str, resume: list[str]) -> None:
    from flows.run import run_here
    from flows.show import print_outcome
    from selfdev_core.config import CampaignConfig

    result = run_here(CampaignConfig.model_validate_json(config_json), resume, console)
    print_outcome(result, console)


@app.command()
def init(
    out: Annotated[Path, typer.Argument(help="File to write.")] = Path("campaign.yaml"),
    shipped: Annotated[
        str | None,
        typer.Option("--from", help="A shipped campaign: miniature, qwen-0.5b, qwen-7b, paper-openchat-7b[-math]."),
    ] = None,
) -> None:
    """Write a campaign file with every setting, its default and what it means, to start from; or a shipped campaign."""
    from flows.explain import annotated_campaign, shipped_campaign
    from selfdev_core.errors import ConfigError

    if out.exists():
        raise ConfigError(f"{out}: exists already; name another file")
    out.write_text(annotated_campaign() if shipped is None else shipped_campaign(shipped), encoding="utf-8")
    then = "Set models and questions, then: " if shipped is None else "What it will need: selfdev plan; then: "
    console.print(f"Wrote {out}. {then}selfdev run {out}", highlight=False)


@app.command()
def status(name: Annotated[str | None, typer.Argument(help="Only this campaign.")] = None) -> None:
    """Where each campaign stands."""
    from flows.show import print_status

    print_status(name, console)


@app.command()
def show(
    name: CampaignName = "miniature",
    algorithm: Annotated[
        str | None, typer.Option("--algorithm", "-a", help="Show one program: its id, a beginning of it, or `winner`.")
    ] = None,
    top: Annotated[int, typer.Option(help="Rows of the leaderboard.", min=1)] = 20,
) -> None:
    """The leaderboard, or one program's source and scores."""
    from flows.show import print_leaderboard, print_program
    from selfdev_core.apply import find_program
    from selfdev_core.assemble import load_result

    result = load_result(name)
    if algorithm:
        print_program(result, find_program(result, algorithm), console)
    else:
        print_leaderboard(result, top, console)


@app.command()
def report(
    name: CampaignName = "miniature",
    out: Annotated[Path | None, typer.Option(help="Write a copy here.")] = None,
) -> None:
    """Make the HTML report anew and say where it is."""
    from selfdev_core.assemble import load_result, save_result

    path = save_result(load_result(name))
    if out is not None:
        out.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        path = out
    typer.echo(str(path.resolve()))


@app.command()
def apply(
    algorithm: Annotated[str, typer.Argument(help="Id of a discovered program, `winner`, or a .py file.")],
    models: Annotated[
        list[str],
        typer.Option(
            help="`seed=FOLDER` once, and `NAME=FOLDER` for each expert (repeat the option); a FOLDER may be ORG/NAME@REVISION."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the merged model; must not exist.")],
    campaign: Annotated[str, typer.Option(help="Campaign that discovered the program.")] = "miniature",
    scope: Annotated[
        Literal["mlp", "all"] | None, typer.Option(help="What is merged; by default as in the campaign.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Time limit of the program, seconds.", min=0.1)] = 600.0,
    memory_gb: Annotated[float, typer.Option(help="Memory limit of the program, GiB.", min=1.0)] = 16.0,
) -> None:
    """Use a program on other checkpoints and save the merged model as a normal Hugging Face folder.

    Example: selfdev apply winner --models seed=./base --models alpha=./math --models beta=./code --out ./merged
    """
    from flows.models import parse_models, program_source

    source, own_scope = program_source(algorithm, campaign)

    def note(text: str) -> None:
        console.print(text, highlight=False, markup=False)

    seed, experts = parse_models(models, note)
    from selfdev_core.apply import apply_program

    with console.status("merging"):
        weights = apply_program(source, seed, experts, scope or own_scope, out, seconds, memory_gb, note=note)
    console.print(f"Merged model in {out} (merged tensors: sha256 {weights[:16]}…)", highlight=False)


@app.command()
def export(
    name: CampaignName = "miniature",
    algorithm: Annotated[str, typer.Option("--algorithm", "-a", help="Program id; by default the winner.")] = "winner",
    out: Annotated[Path | None, typer.Option(help="Folder to write; by default NAME-winner.")] = None,
) -> None:
    """Write the winner: merged model, program and a card with its scores."""
    from selfdev_core.apply import export_winner
    from selfdev_core.assemble import load_result

    with console.status("merging"):
        folder = export_winner(load_result(name), algorithm, out or Path(f"{name}-{algorithm}"))
    console.print(f"Wrote {folder}: model/ (Hugging Face folder), program.py, README.md", highlight=False)


@app.command()
def cost(
    campaign: Annotated[str, typer.Argument(metavar="NAME|CAMPAIGN.yaml")] = "miniature",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """What a campaign took: time, devices, programs, questions, tokens, cache hits, retries, kills, money."""
    from flows.cost import print_cost

    print_cost(campaign, as_json, console)


@app.command()
def doctor() -> None:
    """What this machine can do, and what is missing."""
    from flows.doctor import print_doctor

    print_doctor(console)


@app.command()
def gc(
    store: StoreOption = None,
    days: Annotated[float, typer.Option(help="Keep whatever is younger, days.", min=0.0)] = 7.0,
    forget: Annotated[list[str] | None, typer.Option(help="Campaign that is no longer kept (repeatable).")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it nothing is changed.")] = False,
) -> None:
    """Say what of the store no campaign needs any more; with --yes, remove it."""
    from flows.keep import collect

    collect(store, days, forget or [], yes, console)


@store_app.command("verify")
def store_verify(
    store: StoreOption = None,
    drop: Annotated[bool, typer.Option("--drop", help="Remove what is damaged, so that it is made again.")] = False,
) -> None:
    """Check every object against its digest. Ends with status 1 when damage is left."""
    from flows.keep import check

    if not check(store, drop, console):
        raise typer.Exit(1)


@miniature_app.command()
def build(
    family: Annotated[str, typer.Argument(help="arithmetic or transfer.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    seed: Annotated[int, typer.Option(help="First training seed.", min=0)] = 0,
    tries: Annotated[int, typer.Option(help="Seeds to try, one after the other.", min=1)] = 3,
) -> None:
    """Train a family from nothing. A seed that misses a gate is named with the gate, and the next one is tried."""
    from flows.miniature import build_here

    build_here(family, out, seed, tries, console)


@server_app.command("start")
def server_start() -> None:
    """Start the local Prefect server and print the UI's address."""
    from flows.server import local_server

    typer.echo(local_server().url.removesuffix("/api"))


@server_app.command("stop")
def server_stop() -> None:
    """Stop the local Prefect server. Nothing is lost; the next campaign starts it again."""
    from flows.server import stop_server

    typer.echo("stopped" if stop_server() else "no local server is running")


plan_cli.add_to(app)
baselines_cli.add_to(app)
transfer_cli.add_to(app)
deploy_cli.add_to(app)
evaluate_cli.add_to(app, console)


def main() -> None:
    """Entry point: errors for the reader end with status 2, Ctrl-C with 130."""
    try:
        app()
    except (SelfdevError, OSError) as error:
        Console(stderr=True).print(
            f"[bold red]error[/bold red] {escape(str(error))}", highlight=False, markup=True, soft_wrap=True
        )
        sys.exit(2)
    except SystemExit as stop:
        if stop.code == 130:  # Ctrl-C: everything is stored and stopped; do not wait for threads
            sys.stdout.flush()
            os._exit(130)
        raise


if __name__ == "__main__":
    main()
