"""The commands for campaigns that workers run: deploy, worker, start, schedule, pause, resume."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from flows.names import POOL
from selfdev_core.errors import ConfigError, SelfdevError

console = Console()
Deployed = Annotated[
    str, typer.Argument(metavar="CAMPAIGN", help="Name of a deployed campaign (the `name` in its file).")
]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (deploy, worker, start, schedule, pause, resume):
        app.command(rich_help_panel="Campaigns that workers run")(command)


def deploy(
    file: Annotated[Path, typer.Argument(metavar="CAMPAIGN.yaml", help="Campaign file; see `selfdev init`.")],
    pool: Annotated[str | None, typer.Option(help="Work pool; by default the one in deployments/prefect.yaml.")] = None,
    kind: Annotated[
        Literal["process", "docker", "kubernetes"],
        typer.Option("--type", help="Where runs go: a process beside the worker, a container, a Kubernetes job."),
    ] = "process",
    runs: Annotated[
        int | None, typer.Option(min=1, help="Runs at the same time in the pool; a new pool for processes takes 1.")
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Stages that may compute on GPUs at the same time, over all campaigns of the server; at first as many as the "
            "campaign's file asks for.",
        ),
    ] = None,
    job_template: Annotated[
        Path | None, typer.Option(help="Base job template (JSON) of the pool; by default Prefect's own.")
    ] = None,
) -> None:
    """Register a campaign on the Prefect server, so that workers run it: on a schedule, from the UI, again after a crash.

    It makes, or brings up to date, the work pool, the deployment with the campaign's settings as a form, the limit on GPUs, and
    the automation that marks a run whose process died as Crashed, which is what makes Retry in the UI possible. Nothing starts.
    Deploying again changes what the file changed and leaves the schedule and job variables alone.

    Example: selfdev deploy campaign.yaml; then, on the machine that is to do the work: selfdev worker
    """
    from selfdev_core.config import load_campaign

    config = load_campaign(file)
    with _server() as ui:
        from flows.deploy import deploy as register

        done = register(config, pool, kind, runs, gpus, job_template)
    for one in done.changed or ("nothing: all was there",):
        console.print(f"registered  {one}", highlight=False)
    for one in done.notes:
        console.print(f"[yellow]note[/yellow]        {one}", highlight=False, soft_wrap=True)
    work = "selfdev worker" + ("" if done.pool == POOL else f" --pool {done.pool}")
    console.print(
        f"Deployment  {ui}/deployments/deployment/{done.deployment_id}\n"
        f"Next        {work}   ·   selfdev start {config.name}   ·   selfdev schedule {config.name} --nightly",
        highlight=False,
        soft_wrap=True,
    )


def worker(
    pool: Annotated[str, typer.Option(help="Work pool to take runs from.")] = POOL,
) -> None:
    """Start a worker here: it takes runs of deployed campaigns and does them, until Ctrl-C.

    It is Prefect's own worker (`prefect worker start`), pointed at the server that the other commands use. Its environment is the
    runs' environment: SELFDEV_HOME, and for an S3 store the AWS variables. Stop it whenever you like: finished work is kept,
    and Retry of the run that it had goes on from there.
    """
    with _server():
        from flows.worker import become_worker

        become_worker(pool)


def start(campaign: Deployed) -> None:
    """Start a run of a deployed campaign now; a worker does it. What earlier runs finished comes from the store."""
    with _server() as ui:
        from flows import steer

        run = steer.start(campaign)
    console.print(f"{campaign}: {ui}/runs/flow-run/{run}", highlight=False, soft_wrap=True)


def schedule(
    campaign: Deployed,
    cron: Annotated[str | None, typer.Option(help="Cron line, e.g. '0 22 * * 1-5'.")] = None,
    interval: Annotated[float | None, typer.Option(min=1 / 60, help="Hours between two starts.")] = None,
    nightly: Annotated[bool, typer.Option("--nightly", help="Every night at 22:00.")] = False,
    off: Annotated[bool, typer.Option("--off", help="No schedule any more.")] = False,
    timezone: Annotated[str, typer.Option(help="Time zone of --cron and --nightly.")] = "UTC",
) -> None:
    """Start a deployed campaign by schedule: one of --cron, --interval, --nightly, --off.

    A start goes on from the store; a campaign that is finished answers at once. A start that is due while a run is at work is
    cancelled: the one at work does the same.

    Example: selfdev schedule my-campaign --nightly --timezone Europe/Berlin
    """
    if sum((cron is not None, interval is not None, nightly, off)) != 1:
        raise ConfigError("schedule: give one of --cron, --interval, --nightly, --off")
    with _server():
        from flows import steer

        line = steer.nightly() if nightly else cron
        steer.schedule(campaign, line, None if interval is None else timedelta(hours=interval), timezone)
    when = "off" if off else f"cron {line} {timezone}" if line else f"every {interval:g} hours"
    console.print(f"{campaign}: schedule {when}", highlight=False, markup=False)


def pause(campaign: Deployed) -> None:
    """Suspend a deployed campaign: its run stops when the chunks at work are done, its process ends, its schedule rests.

    Nothing is lost. `selfdev resume` lets it go on, in a new process, from the store.
    """
    with _server():
        from flows import steer

        done = steer.pause(campaign)
    for run in done.runs:
        console.print(f"{run}: suspended; its process ends when the chunks at work are done", highlight=False)
    for run in done.waiting:
        console.print(
            f"{run}: has not begun; it runs when a worker takes it, unless you cancel it in the UI", highlight=False
        )
    rest = "starts no more by schedule" if done.schedules else "was paused already"
    console.print(f"{campaign}: {rest}; go on with: selfdev resume {campaign}", highlight=False, soft_wrap=True)


def resume(campaign: Deployed) -> None:
    """Let a paused campaign go on: its suspended run continues in a new process, its schedule works again."""
    with _server():
        from flows import steer

        done = steer.resume(campaign)
    for run in done.runs:
        console.print(f"{run}: goes on as soon as a worker takes it", highlight=False)
    console.print(f"{campaign}: {'starts by schedule again' if done.schedules else 'was not paused'}", highlight=False)


@contextmanager
def _server() -> Iterator[str]:
    """Inside, the configured or the local server is used; gives the UI's address.

    Raises: SelfdevError when no server answers, or it refuses.
    """
    import httpx

    from flows.server import refusal, use_server

    ui = use_server()
    try:
        yield ui
    except httpx.HTTPStatusError as error:
        raise refusal(error) from None
    except httpx.HTTPError as error:
        raise SelfdevError(f"the Prefect server at {ui} does not answer ({error}); is it still running?") from None
