"""The campaign flow on real parts: real checkpoints, real sandbox, real Prefect server, through the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.loop import essence
from benchmarks.retry import ask
from selfdev_core.result import CampaignResult
from tests.flows.conftest import TINY, Selfdev, command, environment_of


def result_of(home: Path, name: str = "tiny") -> CampaignResult:
    return CampaignResult.model_validate_json((home / "campaigns" / name / "result.json").read_text())


def written(home: Path) -> dict[str, int]:
    kinds = ("generated", "verdicts", "scorecards", "trained")
    files = [path for kind in kinds for path in (home / "store" / "records" / kind).rglob("*.json")]
    return {str(path): path.stat().st_mtime_ns for path in files}


def api(home: Path, path: str, **body: Any) -> Any:
    url = json.loads((home / "prefect" / "server.json").read_text())["url"]
    return ask("POST", f"{url}{path}", body)


def stage_runs(home: Path) -> list[Any]:
    """Task runs of stages, without those that stand for a subflow in its parent."""
    runs = api(home, "/task_runs/filter", sort="EXPECTED_START_TIME_DESC", limit=200)
    return [run for run in runs if not run["name"].startswith("iteration")]


def test_a_campaign_ends_with_a_winner_a_test_score_and_a_report(finished: Path) -> None:
    result = result_of(finished)
    assert result.finished and result.test_openings == 1
    winner = next(row for row in result.leaderboard if row.subject == result.winner)
    assert winner.kind == "discovered-trained"
    assert winner.search and winner.validation and winner.test and len(winner.test.outcomes) == 32
    labels = {c.label for c in result.comparisons}
    assert labels == {"seed", "best expert", "best human-designed", "best untrained"}
    assert [r.arm for r in result.iterations].count("trained") == 2
    first = next(r for r in result.iterations if r.arm == "trained")
    assert first.pairs > 0 and len(first.dpo_losses) == 4
    assert "<html" in (finished / "campaigns" / "tiny" / "report.html").read_text()


def test_the_trained_factory_differs_from_its_parent(finished: Path) -> None:
    trained = [r for r in result_of(finished).iterations if r.arm == "trained"]
    assert trained[0].factory_sha256 != trained[1].factory_sha256
    untrained = [r for r in result_of(finished).iterations if r.arm == "untrained"]
    assert {r.factory_sha256 for r in untrained} == {trained[0].factory_sha256}


def test_only_the_finalists_step_stores_test_questions(finished: Path) -> None:
    splits = Counter(
        json.loads(path.read_text())["body"]["split"]
        for path in (finished / "store" / "records" / "questions").rglob("*.json")
    )
    assert splits == {"search": 1, "validation": 1, "test": 1}
    tested = {
        card["subject"]
        for path in (finished / "store" / "records" / "scorecards").rglob("*.json")
        if (card := json.loads(path.read_text())["body"])["split"] == "test"
    }
    assert len(tested) <= 6  # the winner, the seed, two experts, the best human-designed and the best untrained program


def test_the_same_command_again_computes_nothing(selfdev: Selfdev, finished: Path, campaign_file: Path) -> None:
    before, first = written(finished), result_of(finished)
    selfdev("run", str(campaign_file))
    assert written(finished) == before
    assert essence(result_of(finished)) == essence(first)
    campaigns = api(finished, "/flow_runs/filter", sort="START_TIME_DESC", flow_runs={"name": {"any_": ["tiny"]}})
    second = [run for run in stage_runs(finished) if run["start_time"] >= campaigns[0]["start_time"]]
    assert len(campaigns) == 2 and len(second) > 10
    assert {run["state_name"] for run in second} == {"Cached"}


def test_flow_and_task_runs_are_on_the_server(finished: Path) -> None:
    names = {run["name"] for run in api(finished, "/flow_runs/filter", limit=200)}
    assert {"tiny", "tiny · trained 1", "tiny · trained 2", "tiny · untrained 2"} <= names
    stages = {run["name"].split()[0] for run in stage_runs(finished)}
    assert stages == {"generate", "validate", "merge", "evaluate", "pairs", "train"}


def test_the_same_seed_gives_the_same_campaign_with_and_without_prefect(finished: Path, tmp_path: Path) -> None:
    config = json.dumps(result_of(finished).config)
    done = subprocess.run(
        [*command()[:1], "-m", "benchmarks.direct", config],
        env=environment_of(tmp_path),
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert essence(result_of(tmp_path)) == essence(result_of(finished))


@pytest.mark.slow
def test_an_interrupted_campaign_says_how_to_resume_and_ends_the_same(
    finished: Path, selfdev: Selfdev, tmp_path: Path
) -> None:
    file = tmp_path / "again.yaml"
    file.write_text(TINY.replace("name: tiny", "name: again\nstore: own-store"), encoding="utf-8")
    process = subprocess.Popen(
        command("run", str(file)),
        env=environment_of(finished),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore Ctrl-C
    )
    scorecards = tmp_path / "own-store" / "records" / "scorecards"
    deadline = time.monotonic() + 300
    while len(list(scorecards.rglob("*.json"))) < 3:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Go on with:" in output and "Traceback" not in output
    kept = {path: path.stat().st_mtime_ns for path in scorecards.rglob("*.json")}
    selfdev("run", str(file))
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    assert essence(result_of(finished, "again")) == essence(result_of(finished))


@pytest.mark.slow
def test_damaged_artifacts_are_reported_and_computed_again(alone: Path, selfdev: Selfdev, campaign_file: Path) -> None:
    first = result_of(alone)
    store = alone / "store"
    damaged = [
        sorted((store / "records" / kind).rglob("*.json"))[0] for kind in ("scorecards", "verdicts", "generated")
    ]
    for path in damaged:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    weights = max((store / "blobs").rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(weights.read_bytes())
    content[-100] ^= 0xFF
    weights.write_bytes(bytes(content))
    for path in (store / "records" / "task-results").rglob("*.json"):
        path.unlink()
    output = selfdev("run", str(campaign_file)).stdout
    assert output.count("computed again") >= 3 and "made again" in output
    assert essence(result_of(alone)) == essence(first)


@pytest.mark.slow
@pytest.mark.parametrize("cut", [0, 20, -1])
def test_damaged_task_results_are_reported_and_computed_again(
    alone: Path, selfdev: Selfdev, campaign_file: Path, cut: int
) -> None:
    first = result_of(alone)
    damaged = sorted((alone / "store" / "records" / "task-results").rglob("*.json"))[::3]
    for path in damaged:
        path.write_bytes(path.read_bytes()[:cut])
    output = selfdev("run", str(campaign_file)).stdout
    assert output.count("task-results") >= len(damaged)
    assert essence(result_of(alone)) == essence(first)
