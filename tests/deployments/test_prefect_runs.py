"""Deployed campaigns on a real server and a real worker: killed, retried, paused, stopped, scheduled."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.loop import essence
from benchmarks.retry import BUTTON, BUTTON_V2, Site, engine_of, kill_tree, measure_retry, site, until, working
from selfdev_core.result import CampaignResult

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("runs")) as made:
        yield made


def result(at: Site, name: str) -> CampaignResult:
    return CampaignResult.model_validate_json((at.home / "campaigns" / name / "result.json").read_text())


def ended(at: Site, run: str) -> str:
    final = ("Completed", "Failed", "Crashed", "Cancelled", "Suspended")
    return str(until(lambda: (state := at.state(run)) in final and state, 600, "the end"))


@pytest.fixture(scope="module")
def unkilled(at: Site) -> CampaignResult:
    """The tiny campaign, deployed, started and left alone."""
    at.selfdev("deploy", str(at.campaign("unkilled")))
    with working(at):
        run = at.start("unkilled")
        assert ended(at, run) == "Completed"
    return result(at, "unkilled")


def test_a_deployed_run_shows_artifacts_names_tags_and_its_progress(at: Site, unkilled: CampaignResult) -> None:
    assert unkilled.finished
    shown = {one["key"]: one for one in at.post("/artifacts/latest/filter", limit=100)}
    assert {f"unkilled-{what}" for what in ("progress", "leaderboard", "scores", "report")} <= set(shown)
    assert shown["unkilled-progress"]["data"] == 100.0
    best = json.loads(shown["unkilled-leaderboard"]["data"])
    assert [unkilled.winner in one["program or model"] for one in best if one["winner"] == "★"] == [True]
    assert shown["unkilled-scores"]["data"].startswith("data:image/png;base64,")
    assert "report.html" in shown["unkilled-report"]["data"]
    runs = {one["name"]: one for one in at.post("/flow_runs/filter", limit=200)}
    assert set(runs["unkilled"]["tags"]) == {"selfdev", "campaign:unkilled"}
    iteration = runs["unkilled · trained 2"]
    assert set(iteration["tags"]) == {"selfdev", "campaign:unkilled", "arm:trained", "iteration:2"}
    tasks = at.post("/task_runs/filter", limit=200, task_runs={"tags": {"all_": ["iteration:2", "arm:trained"]}})
    assert {one["name"].split()[0] for one in tasks} >= {"generate", "validate", "evaluate"}
    logs = at.post("/logs/filter", logs={"flow_run_id": {"any_": [runs["unkilled"]["id"]]}}, limit=200)
    assert any("trained 1 · evaluate" in one["message"] for one in logs)
    assert "finished" in at.selfdev("status", "unkilled")


@pytest.mark.parametrize(("victim", "button"), [("machine", BUTTON), ("run", BUTTON_V2)], ids=["machine", "run"])
def test_retry_of_a_killed_run_goes_on_from_the_cache_to_the_same_result(
    at: Site, unkilled: CampaignResult, victim: Any, button: Any
) -> None:
    name = f"killed-{victim}"
    figures = measure_retry(at, name, victim, button)
    print(f"\n{victim}: {figures}")
    assert figures.cached > 0 and figures.kept >= 3 and figures.repeated == 0
    assert essence(result(at, name)) == essence(unkilled)
    runs = at.post("/flow_runs/filter", limit=200)
    ours = [one for one in runs if f"campaign:{name}" in one["tags"]]
    left = {one["name"]: one["state"]["name"] for one in ours if one["state"]["name"] != "Completed"}
    assert left in (
        {},
        {f"{name} · trained 1": "Crashed"},
    )  # the interrupted iteration, as history; nothing is left Running


def test_a_paused_run_frees_its_process_and_goes_on_in_another(at: Site, unkilled: CampaignResult) -> None:
    at.selfdev("deploy", str(at.campaign("rested")))
    with working(at) as worker:
        run = at.start("rested")
        until(lambda: len(at.scorecards("rested")) >= 2, 600, "scorecards")
        first = engine_of(worker)
        assert first is not None
        told = at.selfdev("pause", "rested")
        assert "suspended" in told and "selfdev resume rested" in told
        until(lambda: engine_of(worker) is None, 120, "the end of the suspended process")
        assert at.state(run) == "Suspended"
        kept = at.scorecards("rested")
        # Longer than the automation waits: a suspended run is silent, and must not be taken for a dead one.
        time.sleep(100)
        assert at.state(run) == "Suspended" and at.scorecards("rested") == kept
        assert "paused" in at.selfdev("status", "rested")
        assert "goes on" in at.selfdev("resume", "rested")
        second = until(lambda: engine_of(worker), 120, "a new process")
        assert second.pid != first.pid
        until(lambda: at.state(run) not in ("Suspended", "Resuming"), 120, "the resumed run")
        assert ended(at, run) == "Completed"
    after = at.scorecards("rested")
    assert all(after[path] == when for path, when in kept.items())
    assert essence(result(at, "rested")) == essence(unkilled)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_worker_leaves_no_process_and_a_run_that_can_be_retried(
    at: Site, unkilled: CampaignResult, how: signal.Signals
) -> None:
    import psutil

    name = f"stopped-{how.name.lower()}"
    at.selfdev("deploy", str(at.campaign(name)))
    with working(at) as worker:
        run = at.start(name)
        until(lambda: len(at.scorecards(name)) >= 2, 600, "scorecards")
        family = psutil.Process(worker.pid).children(recursive=True)
        if how is signal.SIGINT:
            os.killpg(worker.pid, how)  # as a terminal does it
        else:
            worker.send_signal(how)
        worker.wait(timeout=90)
        until(lambda: not any(one.is_running() for one in family), 30, "the end of the run's processes")
    until(lambda: at.state(run) == "Crashed", 120, "Crashed")
    with working(at):
        at.post(f"/flow_runs/{run}/set_state", **BUTTON)
        until(lambda: at.state(run) not in ("Crashed", "AwaitingRetry"), 120, "the second attempt")
        assert ended(at, run) == "Completed"
    assert essence(result(at, name)) == essence(unkilled)


def test_a_run_outlives_its_server(at: Site, unkilled: CampaignResult) -> None:
    """Gone for longer than the automation waits: the run may be called dead meanwhile, and ends as if nothing had been."""
    at.selfdev("deploy", str(at.campaign("bereft")))
    with working(at) as worker:
        run, before = at.start("bereft"), at.url
        until(lambda: len(at.scorecards("bereft")) >= 2, 600, "scorecards")
        kill_tree(json.loads((at.home / "prefect" / "server.json").read_text())["pid"])
        time.sleep(100)
        at.selfdev("server", "start")
        assert at.url == before, "workers and runs find it again"
        until(lambda: engine_of(worker) is None, 600, "the end of the run's process")
        state = until(lambda: (now := at.state(run)) not in ("Running", "Retrying") and now, 120, "a final state")
        print(f"\nserver away for 100 s: the run ended {state}")
        if state != "Completed":
            at.post(f"/flow_runs/{run}/set_state", **BUTTON)
            until(lambda: at.state(run) == "Completed", 600, "the end after Retry")
    assert essence(result(at, "bereft")) == essence(unkilled)


def test_a_run_that_dies_while_its_server_is_away_is_crashed_when_the_server_is_back(
    at: Site, unkilled: CampaignResult
) -> None:
    at.selfdev("deploy", str(at.campaign("forsaken")))
    with working(at) as worker:
        run = at.start("forsaken")
        until(lambda: len(at.scorecards("forsaken")) >= 2, 600, "scorecards")
        kill_tree(json.loads((at.home / "prefect" / "server.json").read_text())["pid"])
        kill_tree(worker.pid)
    # By now the automation has waited in vain, and Prefect forgets within a minute that it has.
    time.sleep(75 + 60 + 15)
    at.selfdev("server", "start")
    until(lambda: at.state(run) == "Crashed", 120, "Crashed")
    with working(at):
        at.post(f"/flow_runs/{run}/set_state", **BUTTON)
        until(lambda: at.state(run) not in ("Crashed", "AwaitingRetry"), 120, "the second attempt")
        assert ended(at, run) == "Completed"
    assert essence(result(at, "forsaken")) == essence(unkilled)


def test_a_schedule_starts_runs_and_a_second_start_beside_a_run_is_cancelled(at: Site) -> None:
    at.selfdev("deploy", str(at.campaign("timed")))
    at.selfdev("schedule", "timed", "--interval", str(1 / 60))
    deployment = at.get("/deployments/name/campaign/timed")["id"]

    def runs() -> list[Any]:
        wanted = {"deployment_id": {"any_": [deployment]}, "state": {"name": {"not_any_": ["Scheduled"]}}}
        found: list[Any] = at.post("/flow_runs/filter", flow_runs=wanted, limit=50)
        return found

    with working(at):
        begun = until(lambda: [one for one in runs() if one["state"]["name"] == "Running"], 200, "a scheduled run")
        assert begun[0]["auto_scheduled"]
        second = at.start("timed")
        assert (
            until(lambda: at.state(second) in ("Cancelled", "Running") and at.state(second), 60, "an answer")
            == "Cancelled"
        )
        assert "concurrency limit" in at.get(f"/flow_runs/{second}")["state"]["message"]
        at.selfdev("schedule", "timed", "--off")
        assert ended(at, begun[0]["id"]) == "Completed"


def test_settings_that_only_the_run_can_check_fail_it_with_the_field_named(at: Site) -> None:
    at.selfdev("deploy", str(at.campaign("wrong")))
    deployment = at.get("/deployments/name/campaign/wrong")
    config = deployment["parameters"]["config"]
    config["preference"] |= {"p_w": 0.8, "p_l": 0.5}
    with working(at):
        run = at.start("wrong", parameters={"config": config})
        assert ended(at, run) == "Failed"
    assert "p_w + p_l must be at most 1" in at.get(f"/flow_runs/{run}")["state"]["message"]


def test_commands_without_server_pool_or_campaign_say_what_to_do(at: Site, tmp_path: Path) -> None:
    lost = Site(tmp_path)
    lost.environment |= {"PREFECT_API_URL": "http://127.0.0.1:9/api"}
    for command in (
        ("pause", "tiny"),
        ("schedule", "tiny", "--off"),
        ("worker",),
        ("deploy", str(at.campaign("lost"))),
    ):
        told = lost.selfdev(*command, status=2)
        assert "no server answers" in told and "Traceback" not in told
    told = at.selfdev("worker", "--pool", "nowhere", status=2)
    assert "selfdev deploy CAMPAIGN.yaml --pool nowhere" in told
    assert "give one of --cron" in at.selfdev("schedule", "tiny", status=2)
