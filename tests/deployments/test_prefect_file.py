"""deployments/prefect.yaml is what Prefect's own loader takes, and what it names is there."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from prefect.cli.deploy._config import _load_deploy_configs_and_actions
from prefect.cli.deploy._models import (
    ConcurrencyLimitSpec,
    DeploymentConfig,
    PrefectYamlModel,
    RawScheduleConfig,
    WorkPoolConfig,
)
from prefect.client.schemas.objects import ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import load_flow_from_entrypoint
from rich.console import Console

from flows.deploy import PoolType, entry_of
from flows.names import BEAT_SECONDS, SILENCE_SECONDS, campaign_tags
from selfdev_core.config import CampaignConfig

FILE = Path(str(files("deployments") / "prefect.yaml"))
KINDS = get_args(PoolType)


def test_prefects_loader_takes_the_file_without_a_complaint() -> None:
    console = Console(record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    entries, actions = _load_deploy_configs_and_actions(FILE, console=console)
    assert console.export_text() == ""
    assert len(entries) == len(KINDS) and actions["pull"] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_is_one_that_prefect_knows(kind: PoolType) -> None:
    """Prefect ignores misspelt keys in silence."""
    entry = entry_of(kind)
    parts: list[tuple[Any, Any]] = [
        (entry, DeploymentConfig),
        (entry["work_pool"], WorkPoolConfig),
        (entry["concurrency_limit"], ConcurrencyLimitSpec),
        *((one, RawScheduleConfig) for one in entry["schedules"]),
    ]
    for given, model in parts:
        assert set(given) <= set(model.model_fields)
        model.model_validate(given)
    assert set(yaml.safe_load(FILE.read_text())) - {"definitions"} <= set(PrefectYamlModel.model_fields)
    assert ConcurrencyLimitStrategy(entry["concurrency_limit"]["collision_strategy"])
    for one in entry["schedules"]:
        CronSchedule(cron=one["cron"], timezone=one["timezone"])


@pytest.mark.parametrize("kind", KINDS)
def test_job_variables_are_those_of_the_pools_type(kind: PoolType) -> None:
    import prefect.server.api.collections as collections

    views = Path(collections.__file__).parent / "collections_data" / "views" / "aggregate-worker-metadata.json"
    known = {name: one for workers in json.loads(views.read_text()).values() for name, one in workers.items()}
    variables = known[kind]["default_base_job_configuration"]["variables"]["properties"]
    entry = entry_of(kind)
    assert set(entry["work_pool"]["job_variables"]) <= set(variables)


@pytest.mark.parametrize("kind", KINDS)
def test_entrypoint_and_parameters_are_a_campaign(kind: PoolType) -> None:
    entry = entry_of(kind)
    flow = load_flow_from_entrypoint(entry["entrypoint"])
    assert flow.name == "campaign"
    config = CampaignConfig.model_validate(entry["parameters"]["config"])
    assert tuple(entry["tags"]) == campaign_tags(config.name)


def test_runs_beat_often_enough_for_the_automation() -> None:
    for kind in KINDS:
        beat = int(entry_of(kind)["work_pool"]["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
        assert beat == BEAT_SECONDS and 2 * beat <= SILENCE_SECONDS
