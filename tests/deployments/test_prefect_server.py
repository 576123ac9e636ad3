"""What `selfdev deploy`, `schedule`, `pause` and `resume` leave on a real server, and what they refuse."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.retry import Site
from selfdev_core.config import CampaignConfig, load_campaign
from selfdev_core.errors import ConfigError


def register(config: CampaignConfig, **options: Any) -> Any:
    from flows.deploy import deploy

    return deploy(
        config, **{"pool": None, "kind": "process", "runs": None, "gpu_slots": None, "job_template": None} | options
    )


@pytest.fixture
def deployed(connected: Site) -> Callable[[str], CampaignConfig]:
    """Deploys the tiny campaign under a name."""

    def make(name: str) -> CampaignConfig:
        config = load_campaign(connected.campaign(name))
        register(config)
        return config

    return make


def _automations(at: Site) -> list[Any]:
    return [one for one in at.post("/automations/filter") if one["name"].startswith("selfdev")]


def test_deploying_twice_changes_nothing_the_second_time(connected: Site, deployed: Callable[[str], Any]) -> None:
    config = load_campaign(connected.campaign("twice"))
    first = register(config)
    assert any("deployment" in one for one in first.changed)
    before = connected.get("/deployments/name/campaign/twice"), _automations(connected)
    assert register(config).changed == ()
    after = connected.get("/deployments/name/campaign/twice"), _automations(connected)
    for one in (before[0], after[0]):
        one.pop("updated")
        one["pull_steps"] = one["pull_steps"] or []
    assert before == after and len(before[1]) == 1
    assert before[0]["global_concurrency_limit"]["limit"] == 1
    assert before[0]["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert before[0]["entrypoint"] == "flows.campaign.campaign" and not before[0]["pull_steps"]


def test_the_order_of_an_automations_events_is_no_change() -> None:
    """Equal sets of names come in different orders, depending on how they were filled and on the process's hash seed."""
    from flows.deploy import _content, crash_automation

    events = [f"prefect.flow-run.{i}" for i in range(50)]

    def automation(order: list[str]) -> Any:
        made = crash_automation()
        return made.model_copy(update={"trigger": made.trigger.model_copy(update={"expect": set(order)})})

    one, other = automation(events), automation(events[::-1])
    assert list(one.trigger.expect) != list(other.trigger.expect)
    assert _content(one) == _content(other) != _content(automation(events[1:]))


def test_a_changed_campaign_is_taken_over_and_its_schedule_stays(
    connected: Site, deployed: Callable[[str], CampaignConfig]
) -> None:
    from flows import steer

    config = deployed("changed")
    steer.schedule("changed", "5 4 * * *", None, "Europe/Berlin")
    done = register(config.model_copy(update={"seed": 9}))
    assert done.changed == ("deployment campaign/changed",)
    found = connected.get("/deployments/name/campaign/changed")
    assert found["parameters"]["config"]["seed"] == 9
    assert [one["schedule"]["cron"] for one in found["schedules"]] == ["5 4 * * *"]


def test_a_pool_of_another_type_is_refused_and_docker_and_kubernetes_pools_are_made(connected: Site) -> None:
    config = load_campaign(connected.campaign("pools"))
    for kind in ("docker", "kubernetes"):
        register(config, kind=kind, pool=f"pool-{kind}")
        assert connected.get(f"/work_pools/pool-{kind}")["type"] == kind
    register(config, runs=3)
    assert connected.get("/work_pools/selfdev")["concurrency_limit"] == 3
    register(config)
    assert connected.get("/work_pools/selfdev")["concurrency_limit"] == 3
    with pytest.raises(ConfigError, match="pool-docker: is a pool of type docker, not process; give --type docker"):
        register(config, pool="pool-docker")


def test_a_job_template_is_taken_and_a_bad_one_refused(connected: Site, tmp_path: Path) -> None:
    import json

    config = load_campaign(connected.campaign("template"))
    register(config, kind="kubernetes", pool="own")
    template = connected.get("/work_pools/own")["base_job_template"]
    template["variables"]["properties"]["image"]["default"] = "own:1"
    path = tmp_path / "template.json"
    path.write_text(json.dumps(template))
    assert "job template of work pool own" in register(config, kind="kubernetes", pool="own", job_template=path).changed
    assert connected.get("/work_pools/own")["base_job_template"] == template
    path.write_text("{}")
    with pytest.raises(ConfigError, match="must hold job_configuration and variables"):
        register(config, kind="kubernetes", pool="own", job_template=path)


def test_an_image_set_for_a_pool_or_for_a_deployment_stays_when_the_campaign_is_deployed_again(connected: Site) -> None:
    config = load_campaign(connected.campaign("images"))
    options = {"kind": "docker", "pool": "with-images"}

    def images() -> tuple[str, str | None]:
        pool = connected.get("/work_pools/with-images")["base_job_template"]["variables"]["properties"]["image"]
        variables = connected.get("/deployments/name/campaign/images")["job_variables"]
        assert set(variables) >= {"volumes", "env"}
        return pool["default"], variables.get("image")

    register(config, **options)
    assert images() == ("selfdev:cpu", None)  # Prefect's own image holds no selfdev
    template = connected.get("/work_pools/with-images")["base_job_template"]
    template["variables"]["properties"]["image"]["default"] = "team:1"
    connected.patch("/work_pools/with-images", base_job_template=template)
    deployment = connected.get("/deployments/name/campaign/images")
    connected.patch(f"/deployments/{deployment['id']}", job_variables=deployment["job_variables"] | {"image": "own:1"})
    assert register(config, **options).changed == ()
    register(config.model_copy(update={"seed": 9}), **options)
    assert images() == ("team:1", "own:1")


def test_the_first_deploy_gives_the_campaigns_engines_a_slot_each_and_later_ones_say_so_when_there_are_too_few(
    connected: Site,
) -> None:
    from flows.deploy import slots_of

    plain = load_campaign(connected.campaign("engines"))
    assert slots_of(plain) == 1  # its workers share what GPU there may be
    on_cpu = plain.model_dump() | {"engine": {"kind": "vllm", "gpus": 0}}
    assert slots_of(CampaignConfig.model_validate(on_cpu)) == 1  # its trainings, where there is a GPU
    engine, limit = {"kind": "vllm", "gpus": 8, "tensor_parallel": 2}, f"{connected.url}/v2/concurrency_limits/gpu"
    many = CampaignConfig.model_validate(plain.model_dump() | {"engine": engine})
    httpx.delete(limit, timeout=30)
    try:
        assert "concurrency limit gpu of 4" in register(many).changed
        assert register(plain, gpu_slots=1).notes == ()
        assert connected.get("/v2/concurrency_limits/gpu")["limit"] == 1
        (note,) = register(many).notes
        assert "gpu stays at 1" in note and "--gpus 4" in note
    finally:
        httpx.delete(limit, timeout=30)


def test_the_one_schedule_is_replaced_and_removed(connected: Site, deployed: Callable[[str], Any]) -> None:
    from flows import steer

    deployed("often")

    def schedules() -> list[Any]:
        found = connected.get("/deployments/name/campaign/often")["schedules"]
        return [(one["schedule"].get("cron"), one["schedule"].get("interval"), one["active"]) for one in found]

    steer.schedule("often", steer.nightly(), None, "UTC")
    assert schedules() == [("0 22 * * *", None, True)]
    steer.schedule("often", None, timedelta(hours=6), "UTC")
    assert schedules() == [(None, 6 * 3600.0, True)]
    steer.schedule("often", None, None, "UTC")
    assert schedules() == []
    with pytest.raises(ConfigError, match="is no cron line"):
        steer.schedule("often", "every day", None, "UTC")
    with pytest.raises(ConfigError, match="is no time zone"):
        steer.schedule("often", "0 1 * * *", None, "Middle/Earth")


def test_what_is_not_deployed_is_named_with_what_is(connected: Site, deployed: Callable[[str], Any]) -> None:
    from flows import steer

    deployed("known")
    for act in (steer.pause, steer.resume, lambda name: steer.schedule(name, "0 1 * * *", None, "UTC")):
        with pytest.raises(ConfigError, match=r"no campaign named 'unknown' is deployed.*known.*selfdev deploy"):
            act("unknown")


def test_pause_stops_schedules_without_a_run_and_resume_starts_them(
    connected: Site, deployed: Callable[[str], Any]
) -> None:
    from flows import steer

    deployed("resting")
    steer.schedule("resting", None, timedelta(minutes=10), "UTC")
    assert steer.pause("resting") == steer.Steered((), True)
    assert connected.get("/deployments/name/campaign/resting")["paused"] is True
    assert steer.pause("resting") == steer.Steered((), False)
    assert steer.resume("resting") == steer.Steered((), True)
    assert connected.get("/deployments/name/campaign/resting")["paused"] is False


def test_the_server_refuses_a_form_that_is_wrong_and_names_what(
    connected: Site, deployed: Callable[[str], Any]
) -> None:
    config = deployed("form").model_dump(mode="json")
    deployment = connected.get("/deployments/name/campaign/form")["id"]
    for change, named in (({"seed": -1}, "-1"), ({"factory": config["factory"] | {"iterations": 101}}, "101")):
        answer = httpx.post(
            f"{connected.url}/deployments/{deployment}/create_flow_run",
            json={"parameters": {"config": config | change}},
            timeout=30,
        )
        assert answer.status_code in (409, 422) and named in answer.text


def test_stages_on_a_gpu_take_turns_and_others_ask_for_nothing(connected: Site, deployed: Callable[[str], Any]) -> None:
    from tasks.gpu import gpu_slot

    deployed("gpu")  # makes the limit of one
    inside, most, lock = [0], [0], threading.Lock()

    def compute(wanted: bool) -> None:
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with temporary_settings({PREFECT_API_URL: connected.url}), gpu_slot(wanted):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            time.sleep(0.5)
            with lock:
                inside[0] -= 1

    def together(wanted: bool) -> int:
        most[0] = 0
        threads = [threading.Thread(target=compute, args=(wanted,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return most[0]

    assert together(wanted=True) == 1
    assert together(wanted=False) == 3
    limit = connected.get("/v2/concurrency_limits/gpu")
    assert limit["active_slots"] == 0


def test_which_jobs_compute_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from selfdev_core.engines.config import EngineConfig
    from selfdev_core.records import ModelRef, ModelSet
    from selfdev_core.stages.executor import EVALUATE, GENERATE, MERGE, PAIRS, TRAIN, VALIDATE
    from selfdev_core.stages.jobs import MergeJob
    from selfdev_core.workspace import Limits
    from tasks.gpu import computes_on_gpu

    engine, on_cpu = EngineConfig(), EngineConfig(kind="vllm", gpus=0)
    other = ModelRef(name="any", sha256="1" * 64)
    models = ModelSet(seed=ModelRef(name="seed", sha256="0" * 64), experts=(other,), scope="mlp")

    def merge(device: str) -> MergeJob:
        return MergeJob(models=models, limits=Limits(seconds=1, memory_gb=1, device=device), programs=())

    assert not computes_on_gpu(MERGE.name, merge("cpu"), engine)
    assert computes_on_gpu(MERGE.name, merge("cuda:0"), on_cpu)
    for here in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda here=here: here)
        assert [computes_on_gpu(one.name, other, engine) for one in (GENERATE, EVALUATE, TRAIN)] == [here] * 3
        assert not any(computes_on_gpu(one.name, other, on_cpu) for one in (GENERATE, EVALUATE))
        assert computes_on_gpu(TRAIN.name, other, on_cpu) is here
        assert not any(computes_on_gpu(one.name, other, engine) for one in (VALIDATE, PAIRS))
