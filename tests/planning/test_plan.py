"""A plan: bounds that hold, sums that add up, models asked of a Hub, rates that say where they come from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from flows.plan_cli import rates_of
from selfdev_core.config import CampaignConfig
from selfdev_core.errors import ConfigError
from selfdev_core.ledger import Ledger, StageTotal
from selfdev_core.planning.amounts import arms_of
from selfdev_core.planning.lines import Line
from selfdev_core.planning.lookup import _is_whole, count_tokens, look_up
from selfdev_core.planning.models import Remote, RemoteFile, ask_hub, facts_of_hub
from selfdev_core.planning.plan import plan
from selfdev_core.planning.rates import Rate, Rates, assumed
from selfdev_core.planning.shapes import shape_of
from selfdev_core.records import Cost
from selfdev_core.schedules import first_temperatures
from tests.planning.test_shapes import MISTRAL
from tests.report.synthetic import campaign as synthetic


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
    small, big = (
        planned(campaign(), tokens_per_second=100),
        planned(campaign(factory={"samples": 400}), tokens_per_second=100),
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
    unknown = planned(priced)
    assert unknown["time", "all"].expected is None and ("cost", "all") not in unknown


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


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A Hub on loopback with one model, `lab/small`; the list fills with what is asked of it."""
    asked: list[str] = []
    commit = "0" * 39 + "1"
    config = json.dumps(MISTRAL).encode()
    info = {
        "id": "lab/small", "modelId": "lab/small", "sha": commit, "tags": [], "private": False, "downloads": 0, "likes": 0,
        "siblings": [{"rfilename": "model.safetensors", "size": 5_000_000}, {"rfilename": "config.json", "size": len(config)},
                     {"rfilename": "pytorch_model.bin", "size": 9_000_000}],
    }  # fmt: skip

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if self.path.startswith("/api/models/lab/small"):
                self._reply(json.dumps(info).encode())
            elif self.path.endswith("/config.json"):
                self._reply(config)
            else:
                self._reply(b"{}", 404)

        do_HEAD = do_GET

        def _reply(self, body: bytes, status: int = 200) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), "ETag": '"1"', "X-Repo-Commit": commit}.items():
                self.send_header(name, value)
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield asked
    server.shutdown()
    server.server_close()


def test_a_hub_is_asked_for_file_sizes_and_the_shape_only(hub: list[str], tmp_path: Path) -> None:
    script = (
        "from selfdev_core.planning.models import ask_hub, facts_of_hub\n"
        "found = facts_of_hub('seed', 'lab/small', None, ask_hub)\n"
        "print(found.size, found.download, found.parameters, found.how)\n"
        "from selfdev_core.errors import ConfigError\n"
        "try: facts_of_hub('x', 'lab/nothing-7b', None, ask_hub)\n"
        "except ConfigError as error: print(error)\n"
    )
    told = online(script, tmp_path, os.environ["HF_ENDPOINT"])
    size = 5_000_000 + len(json.dumps(MISTRAL))  # not the pickled weights
    assert told[0] == f"{size} {size} 7241732096 file sizes from the Hub"
    assert "the Hub has no such model" in told[1]
    assert not any(path.endswith(".safetensors") for path in hub)


def test_what_a_hub_tells_is_not_kept(hub: list[str], tmp_path: Path) -> None:
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    scratch.mkdir()
    script = (
        f"import tempfile; tempfile.tempdir = {str(scratch)!r}\n"
        "from selfdev_core.planning.models import ask_hub\n"
        "print(ask_hub('lab/small', None).config['hidden_size'])\n"
    )
    assert online(script, home, os.environ["HF_ENDPOINT"]) == ["4096"]
    assert [path for folder in (home, scratch) for path in folder.rglob("*")] == []


def test_a_disk_that_cannot_be_written_is_not_taken_for_a_hub_that_does_not_answer(
    hub: list[str], tmp_path: Path
) -> None:
    script = (
        "import resource, tempfile\n"
        "from selfdev_core.errors import ConfigError\n"
        "from selfdev_core.planning.models import ask_hub\n"
        "tempfile.gettempdir()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "try: print(ask_hub('lab/small', None))\n"
        "except ConfigError as error: print(error)\n"
    )
    (told,) = online(script, tmp_path, os.environ["HF_ENDPOINT"])
    assert told.startswith("lab/small: its config.json cannot be put into a temporary folder")


def test_a_hub_that_cannot_be_reached_tells_nothing_and_is_no_error(tmp_path: Path) -> None:
    script = "from selfdev_core.planning.models import ask_hub\nprint(ask_hub('lab/small', None))"
    assert online(script, tmp_path, "http://127.0.0.1:1") == ["None"]


def online(script: str, home: Path, endpoint: str) -> list[str]:
    """What it prints, in a process of its own, since the library reads its endpoint when it is imported."""
    environment = os.environ | {"HF_HUB_OFFLINE": "0", "HF_HOME": str(home), "HF_ENDPOINT": endpoint}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_only_what_a_campaign_fetches_is_counted_and_pickled_weights_must_be_converted() -> None:
    def told(*names: str) -> Remote:
        return Remote(tuple(RemoteFile(name, 10**9) for name in names), MISTRAL)

    shards = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    apart = ["consolidated.safetensors", "onnx/model.safetensors", "pytorch_model.bin", "code.py"]
    whole = facts_of_hub("seed", "lab/a", None, lambda *_: told(*shards, "tokenizer.model", *apart))
    assert (whole.download, whole.how) == (3e9, "file sizes from the Hub")
    pickled = facts_of_hub("seed", "lab/b", None, lambda *_: told(*apart, "tokenizer.json"))
    assert "no safetensors" in pickled.how and "convert it first" in pickled.how
    assert pickled.download == 2 * 7_241_732_096


def test_a_model_of_which_a_shard_is_missing_is_not_on_this_machine(tmp_path: Path) -> None:
    shards = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    (tmp_path / shards[0]).touch()
    assert not _is_whole(tmp_path)
    index = {"weight_map": {"a": shards[0], "b": shards[1]}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert not _is_whole(tmp_path)
    (tmp_path / shards[1]).touch()
    assert _is_whole(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "mod')
    assert not _is_whole(tmp_path)


def test_without_a_hub_the_name_or_a_given_shape_tells_the_size() -> None:
    assert ask_hub("lab/small", None) is None  # HF_HUB_OFFLINE is set for tests
    guessed = facts_of_hub("seed", "openchat/OpenChat-7B-x", None, nobody)
    assert guessed.size == 14e9 and guessed.shape is None and "7B" in guessed.how
    assert facts_of_hub("x", "Qwen/Qwen2.5-0.5B-Instruct", None, nobody).parameters == 0.5e9
    with pytest.raises(ConfigError, match="--shape"):
        facts_of_hub("x", "openchat/openchat-3.5-1210", None, nobody)
    given = facts_of_hub("x", "openchat/openchat-3.5-1210", None, nobody, shape_of(MISTRAL, "c"))
    assert given.size == 2 * 7_241_732_096 and "given shape" in given.how


def test_a_size_that_is_guessed_from_a_name_is_bounded_by_the_largest_model_of_that_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = {"seed": "lab/a-1B", "experts": {"b": "lab/b-1B"}}
    config = campaign(models=models, resources={"save_steps": 5})
    lines = planned(config)
    llama = 1_235_814_400  # parameters of Llama-3.2-1B
    bounds = {
        ("downloads", "lab/a-1B"): 2,
        ("downloads", "all models"): 4,
        ("disk", "scratch (TMPDIR): merged weights"): 2 * 2,
        ("disk", "factories in the store"): 2 * 3 * 4,
        ("disk", "scratch (TMPDIR): factories in training"): 2 * 4,
        ("disk", "saves of training in the cache"): 2 * 3 * 4,
        ("gpu memory", "weights"): 2 * 4 * 2,
    }
    for key, bytes_per_parameter in bounds.items():
        assert (lines[key].at_most or 0.0) >= bytes_per_parameter * llama / 1e9, key
        assert (lines[key].expected or 0.0) <= bytes_per_parameter, key  # as the name says
    monkeypatch.setattr("selfdev_core.planning.models.NAMED_WITHIN", 1.0)
    exact = planned(config)
    for key in (("time", "merging"), ("disk", "all")):
        assert (exact[key].at_most or 0.0) < (lines[key].at_most or 0.0) and exact[key].expected == lines[key].expected


def test_prompts_are_counted_with_the_models_own_tokenizer(tmp_path: Path) -> None:
    from selfdev_core.miniature.families import family_folder

    text = "def merge_models(model_dict, device):"
    assert count_tokens(text, family_folder("arithmetic") / "seed") < len(text) / 2
    assert count_tokens("x" * 35, tmp_path) == 10
