"""A plan: bounds that hold, sums that add up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from selfdev_core.config import CampaignConfig
from selfdev_core.planning.amounts import arms_of
from selfdev_core.planning.lines import Line
from selfdev_core.planning.lookup import look_up
from selfdev_core.planning.models import Remote
from selfdev_core.planning.plan import plan
from selfdev_core.planning.rates import assumed
from selfdev_core.planning.shapes import shape_of
from selfdev_core.schedules import first_temperatures
from tests.planning.test_shapes import MISTRAL


def campaign(**change: Any) -> CampaignConfig:
    base: dict[str, Any] = {
        "name": "mine",
        "models": {"family": "arithmetic"},
        "questions": {"family": "arithmetic", "search": 10, "validation": 20, "test": 30},
        "factory": {"iterations": 3, "samples": 100},
        "controls": {"human": ["task_arithmetic"], "task_arithmetic": [0.4, 0.6]},
    }
    return CampaignConfig.model_validate(base | change)


def planned(config: CampaignConfig, **rates: Any) -> dict[tuple[str, str], Line]:
    return {(line.group, line.what): line for line in plan(config, look_up(config, nobody), assumed(**rates))}


def nobody(repository: str, revision: str | None) -> Remote | None:
    return None


def test_programs_are_counted_arm_by_arm_and_iteration_one_once() -> None:
    config = campaign()
    drawn = planned(config)["work", "programs drawn"]
    assert drawn.expected == 100 * 5 + 2 * 64  # trained 3, untrained 2 of its own; two guards
    alone = campaign(controls={"untrained": False, "human": []})
    assert planned(alone)["work", "programs drawn"].expected == 100 * 3 + 2 * 64
    other = {"high": {"first": 1.3}, "decayed": {"schedule": "decay"}}
    both = campaign(ablation={"temperature": other})
    alike = first_temperatures(both.factory.temperature, both.ablation)
    assert arms_of(both) == 4 and alike == 2  # `decayed` begins as the campaign does
    assert planned(both)["work", "programs drawn"].expected == 100 * (2 + 2 * 4) + 6 * 64


def test_expected_never_exceeds_the_bound_and_the_bound_grows_with_the_campaign() -> None:
    price = {"price_per_device_hour": 2.0}
    small, big = (
        planned(campaign(budget=price, **more), tokens_per_second=100) for more in ({}, {"factory": {"samples": 400}})
    )
    for key, line in small.items():
        assert line.expected is not None and line.at_most is not None and line.expected <= line.at_most, key
        assert line.how
    for what in ("programs drawn", "questions answered", "tokens sampled in answers"):
        grown = big["work", what].at_most
        assert grown is not None and grown > (small["work", what].at_most or 0)


def test_what_is_scored_again_on_another_split_is_merged_again() -> None:
    found = planned(campaign(), tokens_per_second=50.0, evaluated=0.5)
    # evaluated ones, two grid points; finalists of both arms and the best of the method; winner, human-designed, untrained
    assert f"{0.5 * 500 + 2 + 2 * 8 + 1 + 3:.0f} merges" in found["time", "merging"].how
    alone = campaign(controls={"untrained": False, "human": []})
    assert f"{0.5 * 300 + 8 + 1:.0f} merges" in planned(alone, evaluated=0.5)["time", "merging"].how


def test_every_worker_has_a_merged_model_in_scratch_space() -> None:
    small = campaign(resources={"workers": 3})
    size = look_up(small, nobody).models[""][0].size
    line = planned(small)["disk", "scratch (TMPDIR): merged weights"]
    assert (line.expected, line.at_most) == (pytest.approx(3 * size / 1e9), pytest.approx((3 * size + 2 * 2**30) / 1e9))
    models = {"seed": "lab/a", "experts": {"b": "lab/b"}}
    big = campaign(models=models, resources={"workers": 3})
    facts = look_up(big, nobody, shape_of(MISTRAL, "config.json"))
    lines = {line.what: line for line in plan(big, facts, assumed())}
    assert lines["scratch (TMPDIR): merged weights"].at_most == pytest.approx(3 * 2 * 7.241732096)


def test_stated_rates_give_hours_and_money_and_without_any_none_are_claimed() -> None:
    priced = campaign(budget={"price_per_device_hour": 2.5, "currency": "EUR"})
    found = planned(priced, tokens_per_second=50.0, evaluated=0.1)
    hours = found["time", "all"].expected
    parts = [line for (group, what), line in found.items() if group == "time" and what not in ("all", "wall time")]
    busy, beside = (sum(p.expected or 0.0 for p in parts if p.unit == unit) for unit in ("device hours", "CPU hours"))
    assert hours == pytest.approx(busy) and beside > 0
    assert found["cost", "all"].expected == pytest.approx(2.5 * (hours or 0.0)) and found["cost", "all"].unit == "EUR"
    assert found["time", "wall time"].expected == pytest.approx((busy + beside) / 2)
    answers = found["work", "tokens sampled in answers"].expected or 0.0
    assert found["time", "answering questions"].expected == pytest.approx(answers / 50.0 / 3600)
    assert "as stated" in found["work", "programs evaluated"].how
    assert planned(campaign(), tokens_per_second=50.0)["cost", "all"].how == "set budget.price_per_device_hour"
    unknown = planned(priced)
    assert unknown["time", "all"].expected is None and unknown["cost", "all"].expected is None
    assert unknown["cost", "all"].how == "not every rate is known"
    assert "; set budget." in planned(campaign())["cost", "all"].how


def test_training_is_planned_with_its_epochs_and_small_batches() -> None:
    dpo = {"method": "lora", "batch_size": 8, "steps": 10}
    pairs = {"pairs": 100}
    whole = planned(campaign(dpo=dpo, preference=pairs))
    small = planned(campaign(dpo=dpo | {"micro_batch": 2, "epochs": 2}, preference=pairs))
    tokens, more = (found["work", "tokens trained on"].expected or 0.0 for found in (whole, small))
    assert more == pytest.approx(tokens * (2 * 13) / 10)  # 13 steps of 8 pairs go once over 100
    memory, less = (found["gpu memory", "DPO"].expected or 0.0 for found in (whole, small))
    assert 0 < less < memory


def of_7b(group: str, **change: Any) -> dict[str, Line]:
    """With models as big as Mistral 7B, a seed and three experts."""
    models = {"seed": "lab/a", "experts": {name: f"lab/{name}" for name in "bcd"}}
    config = campaign(**{"models": models, "dpo": {"method": "lora", "lora_rank": 8}} | change)
    facts = look_up(config, nobody, shape_of(MISTRAL, "config.json"))
    return {line.what: line for line in plan(config, facts, assumed()) if line.group == group}


def gpu_memory(what: str, **change: Any) -> Line:
    return of_7b("gpu memory", **change)[what]


def test_a_factory_in_vllm_is_written_out_with_its_adapter_and_twice_when_another_follows() -> None:
    shape, what = shape_of(MISTRAL, "config.json"), "scratch (TMPDIR): adapted weights"
    for dtype, width in (("bfloat16", 2), ("float32", 4)):
        line = of_7b("disk", engine={"kind": "vllm", "dtype": dtype})[what]
        linear = shape.parameters - 2 * shape.vocabulary * shape.hidden - (2 * shape.blocks + 1) * shape.hidden
        assert line.expected == line.at_most == pytest.approx(2 * width * linear / 1e9)
    once = of_7b("disk", engine={"kind": "vllm"}, factory={"iterations": 2})[what]
    assert once.at_most == 2 * (once.expected or 0.0)  # the guard may draw from a shortened one
    assert what not in of_7b("disk") and what not in of_7b("disk", engine={"kind": "vllm"}, dpo={"method": "full"})
    assert what not in of_7b("disk", engine={"kind": "vllm"}, factory={"iterations": 1})


def test_saves_of_a_training_hold_adams_moments_and_are_there_twice_while_they_rotate() -> None:
    shape, what = shape_of(MISTRAL, "config.json"), "saves of training in the cache"
    lora = {"method": "lora", "lora_rank": 8}
    assert what not in of_7b("disk", dpo=lora | {"steps": 50})  # as many as resources.save_steps: none is made
    first = of_7b("disk", dpo=lora | {"steps": 51}, factory={"iterations": 2})[what]
    assert first.expected == pytest.approx(2 * 3 * 4 * shape.lora(8) / 1e9)
    later = of_7b("disk", dpo=lora | {"steps": 51}, factory={"iterations": 3})[what]
    assert later.expected == pytest.approx(2 * 4 * 4 * shape.lora(8) / 1e9)
    full = of_7b("disk", dpo={"method": "full"}, resources={"save_steps": 5})[what]
    assert full.expected == full.at_most == pytest.approx(2 * 3 * 4 * shape.parameters / 1e9)
    arms = {"temperature": {"other": {"first": 1.3}}}
    both = of_7b("disk", dpo={"method": "full"}, resources={"save_steps": 5}, ablation=arms)[what]
    assert both.at_most == 2 * (full.at_most or 0.0)


def test_a_factory_is_copied_to_the_cache_unless_it_can_be_linked(tmp_path: Path) -> None:
    def cached(**change: Any) -> tuple[Line, Line]:
        lines = of_7b("disk", **change)
        return lines["factories in the store"], lines["factories in the cache"]

    stored, own = cached()
    assert (own.expected, own.at_most) == (0.0, 0.0)
    stored, elsewhere = cached(store=tmp_path)
    assert (elsewhere.expected, elsewhere.at_most) == (0.0, stored.at_most)
    stored, far = cached(store="s3://bucket/place")
    assert (far.expected, far.at_most) == (stored.expected, stored.at_most)


def test_all_of_the_disk_is_the_sum_of_its_lines() -> None:
    lines = of_7b("disk", engine={"kind": "vllm"}, store="s3://bucket/place", resources={"save_steps": 5})
    downloads = of_7b("downloads")["all models"]
    for which in ("expected", "at_most"):
        parts = sum(getattr(line, which) for what, line in lines.items() if what != "all")
        assert getattr(lines["all"], which) == pytest.approx(parts + getattr(downloads, which))
    assert len(lines) == 8


def test_every_worker_on_a_gpu_has_its_models_there_and_what_merges_replace() -> None:
    shape = shape_of(MISTRAL, "config.json")
    weights, replaced = 2 * shape.parameters / 1e9, 2 * shape.merged("mlp") / 1e9

    def grown(what: str, **change: Any) -> float:
        """From one worker to four."""
        one, four = (gpu_memory(what, resources={"workers": count}, **change).expected or 0.0 for count in (1, 4))
        return four - one

    assert grown("sampling programs") == pytest.approx(3 * (weights + replaced + 1))  # one draws, the others answer
    assert grown("DPO") == pytest.approx(3 * (weights + replaced + 1))  # one trains, the others keep what they have
    # Alone one worker keeps three of the four models; four workers keep the seed and an expert each, and a cache.
    assert grown("answering questions") > 5 * weights + 3 * (replaced + 1)
    for what in ("sampling programs", "answering questions", "DPO"):
        assert grown(what, engine={"kind": "vllm", "gpus": 1}) == 0.0
    whole = gpu_memory("sampling programs", models={"seed": "lab/a", "experts": {"b": "lab/b"}, "scope": "all"})
    part = gpu_memory("sampling programs", models={"seed": "lab/a", "experts": {"b": "lab/b"}})
    assert (whole.expected or 0) - (part.expected or 0) == pytest.approx(2 * (weights - replaced))  # of two workers


def test_a_trained_factory_is_a_second_model_in_one_worker() -> None:
    shape = shape_of(MISTRAL, "config.json")
    untrained, trained = (
        gpu_memory("sampling programs", factory={"iterations": count}, resources={"workers": 3}) for count in (1, 2)
    )
    more = (2 * shape.parameters + 4 * shape.lora(8)) / 1e9
    assert (trained.expected or 0) - (untrained.expected or 0) == pytest.approx(more)
    assert (trained.at_most or 0) > (trained.expected or 0)


def test_on_ray_as_many_workers_share_a_gpu_as_ask_for_a_part_of_it() -> None:
    ray = {"runner": "ray", "workers": 8}
    whole, half = (
        gpu_memory("answering questions", resources=ray | {"gpus_per_worker": part}).expected or 0.0
        for part in (1, 0.5)
    )
    assert half == pytest.approx(2 * whole, rel=0.01)  # but for the adapter: one of them draws


def test_a_transfer_adds_its_own_questions() -> None:
    target = {
        "models": {"family": "transfer"},
        "questions": {"family": "transfer", "search": 7, "validation": 11, "test": 13},
    }
    without, moved = planned(campaign()), planned(campaign(transfer={"other": target}))
    more = (moved["work", "questions answered"].at_most or 0) - (without["work", "questions answered"].at_most or 0)
    assert more == (2 + 3) * 7 + (16 + 1 + 3) * 11 + 5 * 13  # two grid points of one method, a seed and two experts
    assert ("downloads", "transfer/alpha") in moved
