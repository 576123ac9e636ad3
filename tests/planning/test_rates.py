"""Rates that are taken from an earlier campaign say on what they were measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.plan_cli import rates_of
from selfdev_core.config import CampaignConfig
from selfdev_core.ledger import Ledger, StageTotal
from selfdev_core.planning.lookup import look_up
from selfdev_core.planning.plan import plan
from selfdev_core.planning.rates import Rate, Rates, assumed
from selfdev_core.records import Cost
from tests.planning.test_plan import campaign, nobody
from tests.report.synthetic import campaign as synthetic


@pytest.fixture
def earlier(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Rates]:
    """Rates for `campaign()` taken from an earlier campaign with these models, whose ledger is that of one busy GPU."""
    monkeypatch.setenv("SELFDEV_HOME", str(tmp_path))

    def stage(seconds: float, tokens: int = 0) -> StageTotal:
        cost = Cost(seconds=seconds, programs=50, questions=50, tokens=tokens)
        return StageTotal(units=10, cost=cost, occupied={"NVIDIA H200": seconds} if tokens else {})

    stages = {"generate": stage(50.0, 4000), "evaluate": stage(10.0, 900)}
    stages |= {name: stage(30.0) for name in ("validate", "merge", "train")}
    monkeypatch.setattr("selfdev_core.ledger.read_ledger", lambda *_: Ledger(campaign="before", stages=stages, runs=()))

    def rates(
        models: dict[str, Any], tokens_per_second: float | None = None, config: CampaignConfig | None = None
    ) -> Rates:
        before = campaign(models=models, name="before").model_dump(mode="json")
        result = synthetic().model_copy(update={"name": "before", "config": before})
        folder = tmp_path / "campaigns" / "before"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").write_text(result.model_dump_json())
        seed = look_up(campaign(), nobody).models[""][0].shape if config is None else None
        return rates_of(config or campaign(), "before", tokens_per_second, None, seed)

    return rates


def test_rates_of_a_campaign_on_such_models_are_taken_and_say_on_what_they_were_measured(
    earlier: Callable[..., Rates],
) -> None:
    config, rates = campaign(), earlier({"family": "arithmetic"})
    assert rates.sampling == Rate(80.0, "measured in campaign before on NVIDIA H200")
    assert rates.merging == Rate(3.0, "measured in campaign before") == rates.training == rates.checking
    lines = {(line.group, line.what): line for line in plan(config, look_up(config, nobody), rates)}
    assert "on NVIDIA H200" in lines["time", "answering questions"].how


def test_of_a_campaign_on_other_models_only_the_shares_are_taken(
    earlier: Callable[..., Rates], save_pico: Callable[..., Path], tmp_path: Path
) -> None:
    same, config = earlier({"family": "arithmetic"}), campaign()
    seed = str(save_pico(tmp_path / "wide", intermediate_size=64))
    gone = str(tmp_path / "gone")
    others = (
        {"seed": seed, "experts": {"a": seed}},
        {"seed": gone, "experts": {"a": gone}},
        {"family": "arithmetic", "scope": "all"},
    )
    for models in others:
        rates = earlier(models)
        assert rates.program_tokens.value == same.program_tokens.value and rates.answer_tokens != same.answer_tokens
        assert rates.program_tokens.source == "measured in campaign before, on other models"
        assert (rates.sampling, rates.merging, rates.training) == (None, None, None)
        assert rates.checking == assumed().checking
        lines = {(line.group, line.what): line for line in plan(config, look_up(config, nobody), rates)}
        assert lines["time", "all"].expected is None
        assert "campaign before ran on other models" in lines["time", "sampling programs"].how
        assert earlier(models, 70.0).answering == Rate(70.0, "as stated")


def test_the_same_repository_is_the_same_model_also_where_the_hub_cannot_be_asked(
    earlier: Callable[..., Rates], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selfdev_core.planning.models.ask_hub", nobody)
    before = {"seed": f"lab/small@{'1' * 40}", "experts": {"a": "lab/other"}}
    assert earlier(before).sampling is None
    config = campaign(models={"seed": "lab/small", "experts": {"a": "lab/other"}})
    assert earlier(before, config=config).sampling == Rate(80.0, "measured in campaign before on NVIDIA H200")
