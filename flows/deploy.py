"""Registers a campaign on the Prefect server: work pool, GPU limit, the automation that finds dead runs, the deployment.

Everything is looked for first and made or brought up to date, so deploying twice changes nothing. What a deployment looks like
stands in `deployments/prefect.yaml`, one entry per type of pool; here its campaign and its pool are put in.
"""

from __future__ import annotations

import copy
import json
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import yaml
from prefect import get_client
from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import (
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.client.schemas.objects import ConcurrencyLimitConfig, StateType
from prefect.deployments.runner import RunnerDeployment
from prefect.events.actions import ChangeFlowRunState
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.types.entrypoint import EntrypointType

from flows.campaign import campaign
from flows.names import BEAT_SECONDS, CRASH_AUTOMATION, LEFT, SILENCE_SECONDS, SOUGHT, TAG, campaign_tags
from selfdev_core.config import CampaignConfig
from selfdev_core.errors import ConfigError
from selfdev_core.planning.plan import devices_of
from tasks.gpu import LIMIT

PoolType = Literal["process", "docker", "kubernetes"]
FILE = "prefect.yaml"
IMAGE = "selfdev:cpu"  # of a pool for containers that names none; deployments/images/cpu.Dockerfile makes it
_MESSAGE = (
    f"No sign of life for {SILENCE_SECONDS} seconds: its process is gone. What it finished is kept; Retry of the "
    "campaign's run goes on from there."
)


class Deployed(NamedTuple):
    """What a deploy left on the server; `changed` names what it made or changed, `notes` what it left though it may not fit."""

    deployment_id: str
    name: str
    pool: str
    changed: tuple[str, ...]
    notes: tuple[str, ...] = ()


def deploy(
    config: CampaignConfig,
    pool: str | None,
    kind: PoolType,
    runs: int | None,
    gpu_slots: int | None,
    job_template: Path | None,
) -> Deployed:
    """Register a campaign. `runs` (at once in the pool) and `gpu_slots` None leave what is there; where nothing is, a pool of
    processes takes one run at a time, and as many stages may compute on GPUs as the campaign's file asks for (`slots_of`).

    Raises: ConfigError when the pool is there with another type, or the job template cannot be read.
    """
    entry = entry_of(kind)
    pool = pool or str(entry["work_pool"]["name"])
    with get_client(sync_client=True) as client:
        changed = _pool(client, pool, kind, runs, job_template)
        limited, notes = _gpu_limit(client, gpu_slots, slots_of(config))
        changed += [*limited, *_crash_automation(client)]
        made, new = _deployment(client, config, entry, pool)
    return Deployed(made, f"{campaign.name}/{config.name}", pool, (*changed, *new), tuple(notes))


def entry_of(kind: PoolType) -> dict[str, Any]:
    """The deployment in `deployments/prefect.yaml` for a type of pool."""
    declared = yaml.safe_load((files("deployments") / FILE).read_text(encoding="utf-8"))
    entries: dict[str, dict[str, Any]] = {one["name"].rpartition("-")[2]: one for one in declared["deployments"]}
    return entries[kind]


def slots_of(config: CampaignConfig) -> int:
    """Slots of the GPU limit that a campaign's file asks for at once: its vLLM engines, or its Ray workers with GPUs; else 1."""
    told = (config.engine.kind == "vllm" and not config.engine.no_gpu) or config.resources.gpus_per_worker > 0
    return devices_of(config) if told else 1


def crash_automation() -> AutomationCore:
    """Marks a run Crashed when its heartbeats stop, so that Retry in the UI becomes possible.

    Only runs that bear our tag, since other people's may beat less often.
    """
    return AutomationCore(
        name=CRASH_AUTOMATION,
        description=f"Runs with the tag {TAG} beat every {BEAT_SECONDS} s; one silent for {SILENCE_SECONDS} s is dead.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat", SOUGHT},
            expect={"prefect.flow-run.*", LEFT},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=SILENCE_SECONDS),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=_MESSAGE)],
    )


def _pool(
    client: SyncPrefectClient, name: str, kind: PoolType, runs: int | None, job_template: Path | None
) -> list[str]:
    template = None if job_template is None else _template_file(job_template)
    try:
        found = client.read_work_pool(name)
    except ObjectNotFound:
        limit = runs or (1 if kind == "process" else None)
        template = _with_image(template or _template(client, kind))
        try:
            client.create_work_pool(
                WorkPoolCreate(name=name, type=kind, base_job_template=template, concurrency_limit=limit)
            )
            return [f"work pool {name}"]
        except ObjectAlreadyExists:  # a worker that starts makes its pool too
            found = client.read_work_pool(name)
    if found.type != kind:
        raise ConfigError(
            f"--pool {name}: is a pool of type {found.type}, not {kind}; give --type {found.type}, or another --pool"
            if found.type in get_args(PoolType)
            else f"--pool {name}: is a pool of type {found.type}; campaigns are deployed to {', '.join(get_args(PoolType))}"
        )
    changed = []
    template = _with_image(template or found.base_job_template)
    if found.base_job_template != template:
        client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))
        changed.append(f"job template of work pool {name}")
    if runs is not None and found.concurrency_limit != runs:
        client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=runs))
        changed.append(f"{runs} runs at once in work pool {name}")
    return changed


def _template(client: SyncPrefectClient, kind: PoolType) -> dict[str, Any]:
    """Prefect's own job template of a type of pool, as its server knows it."""
    for workers in client.read_worker_metadata().values():
        if kind in workers:
            template: dict[str, Any] = workers[kind]["default_base_job_configuration"]
            return template
    raise ConfigError(f"--type {kind}: the Prefect server knows no such type of worker")


def _with_image(template: dict[str, Any]) -> dict[str, Any]:
    """The job template; where it could name an image but names none, ours: Prefect's own image holds no selfdev."""
    named = copy.deepcopy(template)
    image = named.get("variables", {}).get("properties", {}).get("image")
    if image is not None and not image.get("default"):
        image["default"] = IMAGE
    return named


def _template_file(path: Path) -> dict[str, Any]:
    try:
        template = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--job-template {path}: cannot be read as JSON: {error}") from None
    if not isinstance(template, dict) or not {"job_configuration", "variables"} <= set(template):
        raise ConfigError(f"--job-template {path}: must hold job_configuration and variables; see docs/deployments.md")
    return template


def _gpu_limit(client: SyncPrefectClient, slots: int | None, asked: int) -> tuple[list[str], list[str]]:
    """What changed, and notes. `slots`: as many, whatever is there; None: `asked` where there is no limit yet."""
    try:
        found = client.read_global_concurrency_limit_by_name(LIMIT)
    except ObjectNotFound:
        limit = slots or asked
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=LIMIT, limit=limit))
        return [f"concurrency limit {LIMIT} of {limit}"], []
    if slots is None and found.limit < asked:
        return [], [
            f"concurrency limit {LIMIT} stays at {found.limit}, this campaign can use {asked} at once: --gpus {asked}"
        ]
    if slots is None or found.limit == slots:
        return [], []
    client.update_global_concurrency_limit(LIMIT, GlobalConcurrencyLimitUpdate(limit=slots))
    return [f"concurrency limit {LIMIT} of {slots}"], []


def _crash_automation(client: SyncPrefectClient) -> list[str]:
    wanted = crash_automation()
    found = client.read_automations_by_name(wanted.name)
    for surplus in found[1:]:
        client.delete_automation(surplus.id)
    if not found:
        client.create_automation(wanted)
    elif _content(found[0]) != _content(wanted):
        client.update_automation(found[0].id, wanted)
    else:
        return []
    return [f"automation {wanted.name!r}"]


def _content(automation: AutomationCore) -> dict[str, Any]:
    """What counts when two automations are compared; whether it is switched on is the user's affair.

    Not as JSON: there the events' sets become lists, in an order that differs between equal sets under some hash seeds.
    """
    return AutomationCore(**automation.model_dump()).model_dump(exclude={"enabled"})


def _deployment(
    client: SyncPrefectClient, config: CampaignConfig, entry: dict[str, Any], pool: str
) -> tuple[str, list[str]]:
    full_name = f"{campaign.name}/{config.name}"
    before = _stored(client, full_name)
    wanted = RunnerDeployment.from_flow(
        campaign,
        name=config.name,
        description=entry["description"],
        tags=list(campaign_tags(config.name)),
        parameters={"config": config.model_dump(mode="json")},
        concurrency_limit=ConcurrencyLimitConfig(**entry["concurrency_limit"]),
        work_pool_name=pool,
        job_variables=_job_variables(entry["work_pool"]["job_variables"], before, pool),
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    made = wanted.apply(_sync=True)  # type: ignore[call-arg]
    return str(made), [] if _stored(client, full_name) == before else [f"deployment {full_name}"]


def _job_variables(declared: dict[str, Any], before: dict[str, Any] | None, pool: str) -> dict[str, Any]:
    """The entry's, and over them those that the deployment has in this pool: somebody may have changed them in the UI."""
    own = before["job_variables"] if before is not None and before["work_pool_name"] == pool else {}
    return {**declared, **own, "env": {**declared["env"], **(own.get("env") or {})}}


def _stored(client: SyncPrefectClient, name: str) -> dict[str, Any] | None:
    """A deployment as the server has it, without what changes by itself."""
    try:
        found = client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None
    passing = {"updated", "last_polled", "status", "version_id", "version_info"}
    return found.model_dump(mode="json", exclude=passing) | {"pull_steps": found.pull_steps or []}
