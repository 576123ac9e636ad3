"""The campaign files that ship: they load, say whose each value is, and hold the paper's values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

from flows.plan_cli import rates_of
from selfdev_core.config import CampaignConfig, load_campaign
from selfdev_core.evaluation.sources import QuestionSource
from selfdev_core.factory.temperature import temperature_of
from selfdev_core.planning.lookup import look_up
from selfdev_core.planning.plan import plan
from selfdev_core.planning.shapes import shape_of
from selfdev_core.prepare import prompt_of
from tests.planning.test_shapes import MISTRAL

FOLDER = Path(__file__).parents[2] / "deployments" / "campaigns"
FILES = sorted(FOLDER.glob("*.yaml"))
SPLITS: tuple[Literal["search", "validation", "test"], ...] = ("search", "validation", "test")
PAPER = [path for path in FILES if path.name.startswith("paper-")]


def test_the_campaigns_are_there() -> None:
    names = {path.name for path in FILES}
    assert {
        "miniature.yaml",
        "paper-openchat-7b.yaml",
        "paper-openchat-7b-math.yaml",
        "qwen-0.5b.yaml",
        "qwen-7b.yaml",
    } <= names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_shipped_campaign_loads_and_can_be_planned(path: Path) -> None:
    config = load_campaign(path)
    facts = look_up(config, lambda *_: None, shape_of(MISTRAL, "config.json"))
    lines = plan(config, facts, rates_of(config, None, 1000.0, 0.1, None))
    unpriced = [line for line in lines if line.expected is None]
    assert all((line.group, line.how) == ("cost", "set budget.price_per_device_hour") for line in unpriced)
    assert all(line.expected <= (line.at_most or 0) for line in lines if line.expected is not None)
    assert {line.group for line in lines} == {"downloads", "disk", "gpu memory", "work", "time", "cost"}


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_every_value_of_the_papers_campaigns_says_whose_it_is(path: Path) -> None:
    silent = []
    for line in path.read_text(encoding="utf-8").splitlines():
        setting, _, told = line.partition(" #")
        gives_a_value = (
            bool(setting.strip()) and not setting.lstrip().startswith("#") and not setting.rstrip().endswith(":")
        )
        if gives_a_value and not re.match(r" (paper|ours)\b", told):
            silent.append(line)
    assert silent == []


@pytest.mark.parametrize(
    ("name", "benchmark", "search", "test"),
    [("paper-openchat-7b", "gsm8k", 100, 1219), ("paper-openchat-7b-math", "math", 600, 4400)],
)
def test_the_papers_values(name: str, benchmark: str, search: int, test: int) -> None:
    config = load_campaign(FOLDER / f"{name}.yaml")
    q, target = config.questions, config.transfer["other-experts"]
    assert config.models.seed == target.models.seed == "openchat/openchat-3.5-1210"
    assert set(config.models.experts.values()) == {
        "GAIR/Abel-7B-002", "teknium/OpenHermes-2.5-Mistral-7B", "SciPhi/SciPhi-Mistral-7B-32k",
    }  # fmt: skip
    assert (q.benchmark, q.split_rule, q.search, q.test, q.shots) == (benchmark, "paper", search, test, 5)
    assert target.questions == q and config.models.scope == target.models.scope == "mlp"
    assert (config.factory.samples, config.factory.iterations, prompt_of(config)) == (3000, 3, "paper")
    assert [round(temperature_of(config.factory.temperature, t), 2) for t in (1, 2, 3)] == [1.2, 1.0, 0.86]
    assert (config.preference.strategy, config.preference.p_w, config.preference.p_l) == ("paper", 0.03, 0.1)
    assert config.preference.carry_over == 3 and config.finalists.count == 15
    dpo = config.dpo
    assert (dpo.method, dpo.lora_rank, dpo.learning_rate, dpo.beta) == ("lora", 256, 1e-6, 0.01)
    assert dpo.steps_over(270) == 34 and dpo.steps_over(1024) == 128  # once over the pairs, few or many
    assert config.resources.save_steps == 10  # so that a training of 34 is saved at all
    assert config.controls.task_arithmetic == (0.2, 0.4, 0.6) and "model_stock" in config.controls.human
    assert config.engine.kind == "vllm"


def test_the_papers_two_campaigns_differ_in_the_benchmark_only() -> None:
    one, other = (load_campaign(FOLDER / f"paper-openchat-7b{end}.yaml").model_dump() for end in ("", "-math"))
    apart = {"name", "questions", "transfer"}
    assert {k: v for k, v in one.items() if k not in apart} == {k: v for k, v in other.items() if k not in apart}


def test_names_can_be_replaced_by_miniature_ones_and_nothing_else() -> None:
    config = load_campaign(FOLDER / "paper-openchat-7b.yaml")
    small, target = miniature_of(config), config.transfer["other-experts"].questions
    for ours, theirs in ((small.questions, config.questions), (small.transfer["other-experts"].questions, target)):
        assert [getattr(ours, split) for split in SPLITS] == [getattr(theirs, split) for split in SPLITS]
        source = QuestionSource(ours)
        drawn = [item.question for split in SPLITS for item in source.block(split).items]
        assert len(drawn) == len(set(drawn)) == sum(getattr(ours, split) for split in SPLITS)
    assert prompt_of(small) == "miniature"  # what the miniature models were trained on, without a word about it
    for section in (
        "factory",
        "sandbox",
        "preference",
        "dpo",
        "finalists",
        "controls",
        "engine",
        "resources",
        "budget",
    ):
        assert getattr(small, section) == getattr(config, section)


def miniature_of(config: CampaignConfig, sizes: Mapping[str, int] | None = None) -> CampaignConfig:
    """A campaign whose model and benchmark names are replaced by the miniature's. With the benchmark goes what only a benchmark
    has (split rule, worked examples) and what its answers need (their length); nothing else is changed. `sizes`: other numbers
    of questions per split, for a test that must be fast."""
    raw = config.model_dump(mode="json")
    raw["models"], raw["questions"] = {"family": "arithmetic"}, _questions("arithmetic", raw["questions"], sizes)
    for target in raw["transfer"].values():
        questions = _questions("transfer", target["questions"], sizes)
        target |= {"models": {"family": "transfer"}, "questions": questions, "names": {}}
    return CampaignConfig.model_validate(raw)


def _questions(family: str, questions: dict[str, Any], sizes: Mapping[str, int] | None) -> dict[str, Any]:
    kept = {name: questions[name] for name in (*SPLITS, "chat", "batch_size")}
    return {"family": family} | kept | dict(sizes or {})
