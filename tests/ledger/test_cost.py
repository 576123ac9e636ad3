"""What `selfdev cost` says, of campaigns with and without a ledger."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flows.cost import _table, print_cost
from selfdev_core.config import CampaignConfig
from selfdev_core.errors import ConfigError
from selfdev_core.home import campaign_folder
from selfdev_core.ledger import Ledger, StageTotal
from selfdev_core.ledger.events import Event
from selfdev_core.ledger.files import JournalFile
from selfdev_core.records import Cost
from selfdev_core.result import CampaignResult, Stop

CAMPAIGN = """
name: mine
models: {family: arithmetic}
questions: {family: arithmetic}
budget: {price_per_device_hour: 2.5, currency: EUR}
"""
DAY = 86_400.0


def told(campaign: str, as_json: bool = False) -> str:
    text = io.StringIO()
    print_cost(campaign, as_json, Console(file=text, width=200))
    return text.getvalue()


def save_result(**about: Any) -> None:
    config = CampaignConfig.model_validate(
        {"name": "mine", "models": {"family": "arithmetic"}, "questions": {"family": "arithmetic"}}
    ).model_dump(mode="json")
    fields = {"name": "mine", "config": config, "finished": True, "conditions": {}, "iterations": ()}
    made = CampaignResult.model_validate(fields | {"started_at": "1970-01-02T00:00:00+00:00"} | about)
    folder = campaign_folder("mine")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(made.model_dump_json())


def spend(began: float) -> None:
    """A run of two hours that was killed, with an hour and a half of a GPU."""
    file = JournalFile(campaign_folder("mine") / "ledger" / "one.jsonl")
    cost = Cost(seconds=5400.0, programs=3, questions=96, tokens=1234)
    done = {"stage": "evaluate", "key": "x", "cost": cost, "device": "NVIDIA H200", "occupied": 5400.0}
    file.append(Event(number=1, what="run-began", when=began))
    file.append(Event(number=2, what="done", when=began + 5400, **done))
    file.append(Event(number=3, what="hit", when=began + 5400, stage="evaluate", key="y", units=7))
    file.append(Event(number=4, what="killed", when=began + 7200))
    file.close()


@pytest.fixture
def campaign_file(tmp_path: Path) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(CAMPAIGN)
    return str(path)


def test_the_table_has_time_devices_kills_and_money(campaign_file: str) -> None:
    spend(DAY)
    text = told(campaign_file)
    assert "Device hours: 1.500 on NVIDIA H200" in text and "1:30:00" in text and "1,234" in text
    assert "1 run(s), 1 of them killed; wall time 2:00:00" in text
    assert "3.75 EUR at 2.5 per device hour" in text


def test_the_table_of_a_big_campaign_can_be_read_in_a_narrow_window() -> None:
    on_cpu = StageTotal(units=15_128, cost=Cost(seconds=36_000.0, programs=15_128), hits=24_794, overhead_seconds=40.0)
    on_gpu = on_cpu.model_copy(update={"occupied": {"NVIDIA A100-SXM4-80GB": 360_000.0}, "retries": 15})
    answers = Cost(seconds=360_000.0, programs=15_128, questions=1_813_890, tokens=217_974_235)
    few = StageTotal(units=12, cost=Cost(seconds=36_000.0), occupied=on_gpu.occupied)
    stages = {"generate": on_gpu, "validate": on_cpu, "merge": on_cpu}
    stages |= {"evaluate": on_gpu.model_copy(update={"cost": answers}), "pairs": StageTotal(units=12), "train": few}
    text = io.StringIO()
    Console(file=text, width=80).print(_table(Ledger(campaign="mine", stages=stages, runs=())))
    lines = text.getvalue().splitlines()
    assert "…" not in text.getvalue() and max(map(len, lines)) <= 80
    (hours,) = (line for line in lines if "100.000" in line)
    assert [cell.strip() for cell in hours.split("│")[2:-1]] == ["100.000", "–", "–", "100.000", "–", "100.000"]
    assert "100:00:00" in text.getvalue() and "217,974,235" in text.getvalue() and "questions" in text.getvalue()


def test_json_holds_the_same_and_names_what_it_counts(campaign_file: str) -> None:
    spend(DAY)
    found = json.loads(told(campaign_file, as_json=True))
    assert (found["kills"], found["hits"], found["wall_hours"], found["money"]) == (1, 7, 2.0, 3.75)
    assert found["device_hours"] == {"NVIDIA H200": 1.5} and found["currency"] == "EUR"
    assert found["stages"]["evaluate"]["cost"]["questions"] == 96 and found["repeated"] == {"evaluate": 0}


def test_a_campaign_without_a_price_has_no_money(campaign_file: str) -> None:
    spend(DAY)
    assert json.loads(told("mine", as_json=True))["money"] is None and "Money" not in told("mine")


def test_a_campaign_from_before_the_ledger_shows_what_its_report_has() -> None:
    save_result(costs={"evaluate": Cost(seconds=61.0, programs=5, questions=320, tokens=4321)})
    text = told("mine")
    assert "4,321" in text and "0:01:01" in text and "ran before it had a ledger" in text


def test_a_campaign_that_began_before_its_ledger_says_since_when_it_counts() -> None:
    save_result()
    spend(3 * DAY)
    assert "began before its ledger, which counts since 1970-01-04" in told("mine")


def test_a_stop_by_the_budget_is_told() -> None:
    spend(DAY)
    save_result(stopped_by=Stop(cap="tokens", limit=1000, spent=1234, iterations=2, planned=4))
    assert "budget.tokens" in told("mine")
    assert json.loads(told("mine", as_json=True))["stopped_by"]["iterations"] == 2


def test_a_campaign_that_nobody_knows_is_refused_and_no_store_is_made(home: Path) -> None:
    with pytest.raises(ConfigError, match="nobody"):
        told("nobody")
    assert not home.exists()
