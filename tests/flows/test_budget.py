"""Cost and budget of real campaigns, through the real command line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.loop import essence
from selfdev_core.result import CampaignResult
from tests.flows.conftest import TINY, Selfdev, command, environment_of
from tests.flows.test_campaign import result_of

GUIDE = (Path(__file__).parents[2] / "docs" / "budget.md").read_text(encoding="utf-8")


def cost_of(selfdev: Selfdev, campaign: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(selfdev("cost", campaign, "--json").stdout)
    return found


def test_every_command_of_the_budget_guide_works(finished: Path, tmp_path: Path) -> None:
    script = "set -eu\n" + "\n".join(re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL))
    environment = environment_of(finished) | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "repeated" in done.stdout and "Device hours" in done.stdout


def test_the_ledger_agrees_with_the_result(finished: Path, selfdev: Selfdev) -> None:
    found, result = cost_of(selfdev, "tiny"), result_of(finished)
    stages = found["stages"]
    assert set(stages) == {"generate", "validate", "merge", "evaluate", "pairs", "train"}
    assert found["repeated_evaluations"] == found["kills"] == found["unreadable"] == 0
    drawn = sum(r.samples for r in result.iterations) - 16 + 8  # iteration 1 is shared; the guard drew 8
    assert stages["generate"]["cost"]["programs"] == drawn and stages["train"]["units"] == 1
    cards = [
        json.loads(path.read_text())["body"] for path in (finished / "store" / "records" / "scorecards").rglob("*.json")
    ]
    assert stages["evaluate"]["units"] == len(cards)
    assert stages["evaluate"]["cost"]["questions"] == sum(len(card["outcomes"]) for card in cards)
    assert stages["evaluate"]["cost"]["tokens"] == sum(card["tokens"] for card in cards)
    assert found["wall_hours"] > 0 and sum(found["device_hours"].values()) > 0


def test_an_unknown_campaign_is_told(selfdev: Selfdev) -> None:
    assert "no results of a campaign named 'nobody'" in selfdev("cost", "nobody", status=2).stderr


LONG = TINY.replace("iterations: 2", "iterations: 3")


def campaign(folder: Path, name: str, budget: str = "") -> str:
    file = folder / f"{name}.yaml"
    file.write_text(LONG.replace("name: tiny", f"name: {name}\nstore: {name}-store") + budget, encoding="utf-8")
    return str(file)


def records(folder: Path, name: str) -> dict[Path, int]:
    """Every record of computed work with its time of writing."""
    kinds = ("generated", "verdicts", "scorecards", "trained")
    root = folder / f"{name}-store" / "records"
    return {path: path.stat().st_mtime_ns for kind in kinds for path in (root / kind).rglob("*.json")}


@pytest.mark.slow
def test_a_capped_campaign_stops_reports_and_goes_on_with_a_larger_cap(
    home: Path, selfdev: Selfdev, tmp_path: Path
) -> None:
    selfdev("run", campaign(tmp_path, "whole"))
    capped = campaign(tmp_path, "capped", "budget: {programs: 16, price_per_device_hour: 3.6, currency: EUR}\n")
    assert "budget.programs" in selfdev("run", capped).stdout
    first = result_of(home, "capped")
    assert first.finished and first.winner and first.test_openings == 1
    assert first.stopped_by and (first.stopped_by.iterations, first.stopped_by.planned) == (1, 3)
    assert [r.iteration for r in first.iterations if r.arm == "trained"] == [1]
    assert first.budget and first.budget.trained == first.budget.untrained
    assert "after 1 of 3 iterations" in (home / "campaigns" / "capped" / "report.html").read_text()

    before = records(tmp_path, "capped")
    selfdev("run", capped)
    assert records(tmp_path, "capped") == before and essence(result_of(home, "capped")) == essence(first)
    assert result_of(home, "capped").ended_at == first.ended_at

    selfdev("run", campaign(tmp_path, "capped", "budget: {programs: 80}\n"))  # all three iterations: 16 + 32 + 32
    whole = result_of(home, "capped")
    assert whole.stopped_by is None and essence(whole) == essence(result_of(home, "whole"))
    assert whole.test_openings == 2
    assert all(records(tmp_path, "capped")[path] == when for path, when in before.items())
    found = cost_of(selfdev, "capped")
    assert found["repeated_evaluations"] == found["kills"] == 0 and len(found["runs"]) == 3


@pytest.mark.slow
def test_hours_end_the_search_and_a_rerun_stops_at_the_same_place(home: Path, selfdev: Selfdev, tmp_path: Path) -> None:
    file = campaign(tmp_path, "hours", "budget: {wall_hours: 0.0001}\n")
    selfdev("run", file)
    first = result_of(home, "hours")
    assert first.stopped_by and first.stopped_by.cap == "wall_hours" and first.stopped_by.iterations == 1
    before = records(tmp_path, "hours")
    selfdev("run", file)
    again: CampaignResult = result_of(home, "hours")
    assert again.stopped_by == first.stopped_by and records(tmp_path, "hours") == before


@pytest.mark.slow
def test_kills_are_counted_and_no_finished_evaluation_is_repeated(home: Path, selfdev: Selfdev, tmp_path: Path) -> None:
    file = campaign(tmp_path, "killed")
    scorecards = tmp_path / "killed-store" / "records" / "scorecards"
    for wanted in (3, 9):
        process = subprocess.Popen(
            command("run", file), env=environment_of(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 300
        while len(list(scorecards.rglob("*.json"))) < wanted and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    half = cost_of(selfdev, file)
    assert half["kills"] == 2 and half["stages"]["evaluate"]["units"] >= 9
    selfdev("run", file)
    found = cost_of(selfdev, file)
    assert found["kills"] == 2 and len(found["runs"]) == 3
    assert found["repeated_evaluations"] == 0 and not any(found["repeated"].values())
    assert found["stages"]["evaluate"]["units"] == len(list(scorecards.rglob("*.json")))
