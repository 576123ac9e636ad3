"""A deployed campaign's runs and schedules: start, schedule, pause, resume. Everything goes through the Prefect server."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import OrchestrationResult
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse, SetStateStatus
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.exceptions import ObjectNotFound
from prefect.states import Suspended

from flows.deploy import entry_of
from flows.names import FLOW
from selfdev_core.errors import ConfigError, SelfdevError

_RUNNING = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING]))
_STARTING = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED, StateType.PENDING]))
_SUSPENDED = FlowRunFilterState(name=FlowRunFilterStateName(any_=["Suspended"]))
SLUG = "selfdev"  # our one schedule of a deployment; others that a person adds in the UI are left alone


BEGIN_SECONDS = 60.0  # a run that is due begins within this time when a worker is there


class Steered(NamedTuple):
    """What a pause or a resume did: names of its runs, whether the schedules changed, and runs that no worker has begun."""

    runs: tuple[str, ...]
    schedules: bool
    waiting: tuple[str, ...] = ()


def nightly() -> str:
    """The cron line of `--nightly`, from deployments/prefect.yaml; UTC unless a time zone is given."""
    return str(entry_of("process")["schedules"][0]["cron"])


def start(campaign: str) -> UUID:
    """Start a run with the deployment's settings; returns its id. Raises: ConfigError when there is no such deployment."""
    with get_client(sync_client=True) as client:
        return client.create_flow_run_from_deployment(_deployment(client, campaign).id).id


def schedule(campaign: str, cron: str | None, interval: timedelta | None, timezone: str) -> None:
    """Give a deployed campaign its one schedule, in place of an earlier one; neither cron nor interval: none.

    Raises: ConfigError when there is no such deployment, or the cron line or time zone is none.
    """
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError):
        raise ConfigError(f"--timezone {timezone!r}: is no time zone; write it as Europe/Berlin or UTC") from None
    wanted: CronSchedule | IntervalSchedule | None = None
    try:
        if cron is not None:
            wanted = CronSchedule(cron=cron, timezone=timezone)
        elif interval is not None:
            wanted = IntervalSchedule(interval=interval, timezone=timezone)
    except ValueError as error:
        raise ConfigError(
            f"--cron {cron!r}: is no cron line ({_first_reason(error)}); an example: '0 22 * * *'"
        ) from None
    with get_client(sync_client=True) as client:
        found = _deployment(client, campaign)
        for old in client.read_deployment_schedules(found.id):
            if getattr(old, "slug", None) == SLUG:
                client.delete_deployment_schedule(found.id, old.id)
        if wanted is not None:
            client.create_deployment_schedules(
                found.id, [DeploymentScheduleCreate(schedule=wanted, active=True, slug=SLUG)]
            )


def pause(campaign: str) -> Steered:
    """Suspend a deployed campaign's runs at their next task boundary and stop its schedules.

    Only what has begun can be suspended, so runs that are due are waited for. Raises: ConfigError when there is no such
    deployment; SelfdevError when the server refuses.
    """
    with get_client(sync_client=True) as client:
        found = _deployment(client, campaign)
        if not found.paused:
            client.pause_deployment(found.id)  # takes runs back that are scheduled for later
        deadline = time.monotonic() + BEGIN_SECONDS
        while (waiting := _runs(client, found.id, _STARTING)) and time.monotonic() < deadline:
            time.sleep(1.0)
        running = _runs(client, found.id, _RUNNING)
        for run in running:
            answer: OrchestrationResult[Any] = client.set_flow_run_state(
                run.id, Suspended(message="Paused with `selfdev pause`.")
            )
            if answer.status is not SetStateStatus.ACCEPT:
                reason = getattr(answer.details, "reason", None) or answer.status.value
                raise SelfdevError(f"run {run.name} cannot be suspended: {reason}")
        return Steered(tuple(run.name for run in running), not found.paused, tuple(run.name for run in waiting))


def resume(campaign: str) -> Steered:
    """Let a campaign's suspended runs go on, each in a new process of a worker, and start its schedules again."""
    with get_client(sync_client=True) as client:
        found = _deployment(client, campaign)
        if found.paused:
            client.resume_deployment(found.id)
        waiting = _runs(client, found.id, _SUSPENDED)
        for run in waiting:
            answer: OrchestrationResult[Any] = client.resume_flow_run(run.id)
            if answer.status is not SetStateStatus.ACCEPT:
                reason = getattr(answer.details, "reason", None) or answer.status.value
                raise SelfdevError(f"run {run.name} cannot go on: {reason}")
        return Steered(tuple(run.name for run in waiting), bool(found.paused))


def _deployment(client: SyncPrefectClient, campaign: str) -> DeploymentResponse:
    try:
        return client.read_deployment_by_name(f"{FLOW}/{campaign}")
    except ObjectNotFound:
        known = sorted(one.name for one in client.read_deployments() if "selfdev" in one.tags)
        hint = f"deployed are: {', '.join(known)}" if known else "nothing is deployed yet"
        raise ConfigError(
            f"no campaign named {campaign!r} is deployed on {client.api_url}; {hint}; `selfdev deploy CAMPAIGN.yaml` deploys one"
        ) from None


def _runs(client: SyncPrefectClient, deployment: UUID, state: FlowRunFilterState) -> list[FlowRun]:
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=state),
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])),
    )


def _first_reason(error: ValueError) -> str:
    return str(error).splitlines()[-1].strip() if not hasattr(error, "errors") else str(error.errors()[0]["msg"])
