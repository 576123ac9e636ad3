"""A campaign file: strict, and every refusal says where and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.explain import annotated_campaign
from selfdev_core.config import CampaignConfig, load_campaign
from selfdev_core.errors import ConfigError


def _campaign() -> dict[str, Any]:
    return {
        "name": "mine",
        "models": {"seed": "models/seed", "experts": {"math": "models/math"}},
        "questions": {"search_file": "s.jsonl", "validation_file": "v.jsonl", "test_file": "t.jsonl"},
    }


def _load(tmp_path: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> CampaignConfig:
    raw = _campaign()
    change(raw)
    path = tmp_path / "campaign.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return load_campaign(path)


def _set(raw: dict[str, Any], field: str, value: object) -> None:
    *sections, last = field.split(".")
    for section in sections:
        raw = raw.setdefault(section, {})
    if value is ...:
        del raw[last]
    else:
        raw[last] = value


REFUSED: list[tuple[str, object, str]] = [
    ("nmae", "x", r"nmae: .*no such setting; check the spelling"),
    ("factory.iteratoins", 3, r"factory\.iteratoins: .*no such setting"),
    ("factory.temperature.rat", 3, r"factory\.temperature\.rat: .*no such setting"),
    ("name", ..., r"name: Field required"),
    ("name", "Mine!", r"name: .*got 'Mine!'"),
    ("name", "../up", r"name: .*got '\.\./up'"),
    ("name", "", r"name: "),
    ("models", ..., r"models: Field required"),
    ("models", {}, r"models: give a family .*seed folder"),
    ("models.seed", ..., r"models: give a family"),
    ("models.experts", {}, r"models: give a family .*at least one expert"),
    ("models.experts", {"": "x"}, r"models\.experts"),
    ("models.family", "arithmetic", r"models: give either family, or seed and experts"),
    ("models.family", "biology", r"models\.family: .*'arithmetic' or 'transfer'"),
    ("models.scope", "attention", r"models\.scope: .*'mlp' or 'all'.*got 'attention'"),
    (
        "questions.test_file",
        ...,
        r"questions: give a benchmark, a family, or search_file, validation_file and test_file",
    ),
    ("questions.family", "arithmetic", r"questions: give either a benchmark, a family or the three question files"),
    ("questions.template", "Q: {q}", r"questions: template: must hold \{question\}"),
    ("questions.search", 0, r"questions\.search: .*greater than or equal to 1, got 0"),
    ("questions.test", -5, r"questions\.test: .*got -5"),
    ("questions.max_new_tokens", 10**6, r"questions\.max_new_tokens: .*32768"),
    ("preference", {"p_w": 0.6, "p_l": 0.5}, r"preference: p_w \+ p_l must be at most 1, got 0\.6 \+ 0\.5"),
    ("preference", {"p_w": 0}, r"preference: p_w and p_l must be above 0"),
    ("preference.p_w", 1.5, r"preference\.p_w: .*got 1\.5"),
    ("preference.p_l", -0.1, r"preference\.p_l: .*got -0\.1"),
    ("preference.p_w", float("nan"), r"preference\.p_w: .*finite"),
    ("preference.strategy", "best", r"preference\.strategy: .*'stable' or 'paper'"),
    ("factory.samples", "many", r"factory\.samples: .*got 'many'"),
    ("factory.iterations", 2.5, r"factory\.iterations: .*got 2\.5"),
    ("factory.temperature.first", 0, r"factory\.temperature\.first: .*greater than 0"),
    ("factory.temperature.first", float("inf"), r"factory\.temperature\.first: "),
    ("factory.top_p", 1.01, r"factory\.top_p: "),
    ("sandbox.seconds", 0, r"sandbox\.seconds: .*greater than 0"),
    ("sandbox.memory_gb", 0.1, r"sandbox\.memory_gb: "),
    ("dpo.learning_rate", 0, r"dpo\.learning_rate: "),
    ("dpo.beta", -1, r"dpo\.beta: "),
    ("dpo.min_valid_share", 85, r"dpo\.min_valid_share: "),
    ("dpo.method", "sft", r"dpo\.method: "),
    ("finalists.count", 0, r"finalists\.count: "),
    ("controls.ties", [0.2], r"controls\.ties"),
    ("controls.task_arithmetic", 0.2, r"controls\.task_arithmetic: "),
    ("resources.workers", 0, r"resources\.workers: "),
    ("seed", -1, r"seed: .*got -1"),
    ("sandbox", [], r"sandbox: "),
]


@pytest.mark.parametrize(("field", "value", "message"), REFUSED)
def test_a_wrong_setting_is_refused_by_file_field_and_value(
    tmp_path: Path, field: str, value: object, message: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        _load(tmp_path, lambda raw: _set(raw, field, value))
    text = str(refusal.value)
    assert text.startswith(f"{tmp_path / 'campaign.yaml'}: ")
    assert re.search(rf"(?m)^  {message}", text), text


def test_all_wrong_settings_are_named_at_once(tmp_path: Path) -> None:
    def spoil(raw: dict[str, Any]) -> None:
        raw |= {"seed": -1, "colour": "red", "factory": {"samples": 0}}

    with pytest.raises(ConfigError, match=r"3 setting\(s\) refused") as refusal:
        _load(tmp_path, spoil)
    assert all(field in str(refusal.value) for field in ("seed:", "colour:", "factory.samples:"))


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "must be a mapping"), ("- 1", "must be a mapping"), ("text", "must be a mapping"), ("a: [", "cannot be read as YAML"),
     ("!!python/object/apply:os.system ['true']", "cannot be read as YAML")],
)  # fmt: skip
def test_a_file_that_is_no_campaign_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "campaign.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"campaign\.yaml: {message}"):
        load_campaign(path)


def test_a_missing_file_a_folder_and_a_binary_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml: no such campaign file"):
        load_campaign(tmp_path / "nothing.yaml")
    with pytest.raises(ConfigError, match="is a folder; name a campaign YAML file"):
        load_campaign(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\0\xd8")
    with pytest.raises(ConfigError, match="binary: cannot be read"):
        load_campaign(tmp_path / "binary")


def test_relative_paths_are_taken_from_the_files_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "campaigns"
    home.mkdir()
    (tmp_path / "elsewhere").mkdir()
    for name in ("seed", "math"):
        (home / "models" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")

    def paths(raw: dict[str, Any]) -> None:
        raw["models"]["experts"]["code"] = "/srv/code"
        raw |= {"factory": {"prompt": "./prompt.txt"}, "store": "../kept"}

    config = _load(home, paths)
    assert config.models.seed == str(home / "models/seed")
    assert config.models.experts == {"math": str(home / "models/math"), "code": "/srv/code"}
    assert config.questions.test_file == home / "t.jsonl"
    assert config.factory.prompt == home / "prompt.txt"
    assert config.store == tmp_path / "kept"


@pytest.mark.parametrize("name", ["miniature", "paper"])
def test_the_shipped_prompts_are_names_not_paths(tmp_path: Path, name: str) -> None:
    assert _load(tmp_path, lambda raw: _set(raw, "factory.prompt", name)).factory.prompt == name


def test_experts_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "campaign.yaml"
    raw = _campaign()
    raw["models"]["experts"] = {"z": "1", "a": "2", "m": "3"}
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    assert list(load_campaign(path).models.experts) == ["z", "a", "m"]


def test_a_configuration_survives_its_own_json(tmp_path: Path) -> None:
    config = _load(tmp_path, lambda raw: _set(raw, "factory.prompt", "./p.txt"))
    assert CampaignConfig.model_validate_json(config.model_dump_json()) == config


def test_shares_that_sum_to_one_are_allowed(tmp_path: Path) -> None:
    for percent in range(1, 100):
        _load(tmp_path, lambda raw, p=percent: _set(raw, "preference", {"p_w": p / 100, "p_l": (100 - p) / 100}))  # type: ignore[misc]


def test_every_field_says_what_it_is() -> None:
    from pydantic import BaseModel

    def walk(model: type[BaseModel], where: str) -> list[str]:
        missing = []
        for name, field in model.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                missing += walk(field.annotation, f"{where}{name}.")
            elif not field.description:
                missing.append(f"{where}{name}")
        return missing

    assert walk(CampaignConfig, "") == []


def test_the_written_campaign_file_loads_and_holds_every_default(tmp_path: Path) -> None:
    path = tmp_path / "campaign.yaml"
    path.write_text(annotated_campaign(), encoding="utf-8")
    config = load_campaign(path)
    given = {"name", "models", "questions", "factory"}
    own = CampaignConfig.model_validate(_campaign())
    assert config.model_dump(exclude=given) == own.model_dump(exclude=given)
    assert config.factory == own.factory.model_copy(update={"prompt": "paper"})
    assert config.questions.search == own.questions.search and config.models.scope == own.models.scope
    assert config.models.seed == str(tmp_path / "models/seed")
    raw = yaml.safe_load(annotated_campaign())
    for name in CampaignConfig.model_fields:
        assert name in raw


@pytest.mark.parametrize(
    ("given", "kept"), [("s3://bucket/some/prefix/", "s3://bucket/some/prefix"), ("s3://bucket", "s3://bucket")]
)
def test_a_store_may_be_a_bucket(tmp_path: Path, given: str, kept: str) -> None:
    config = _load(tmp_path, lambda raw: _set(raw, "store", given))
    assert config.store == kept
    assert CampaignConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    "address",
    [
        "s3://KEY:hushhush@bucket/x",
        "s3://bucket?secret=hushhush",
        "s3:/bucket",
        "s3://b",
        "s3://bucket/../x",
        "gs://bucket",
    ],
)
def test_a_wrong_store_address_is_refused_without_being_repeated(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match=r"store: .*(s3://bucket/prefix)") as refusal:
        _load(tmp_path, lambda raw: _set(raw, "store", address))
    assert "hushhush" not in str(refusal.value)


def test_a_budget_must_let_the_first_iteration_of_all_arms_draw(tmp_path: Path) -> None:
    def with_budget(programs: int, first: float) -> CampaignConfig:
        ablation = {"temperature": {"other": {"first": first}}}
        change = {"budget": {"programs": programs}, "factory": {"samples": 50}, "ablation": ablation}
        return _load(tmp_path, lambda raw: raw.update(change))

    assert with_budget(50, first=1.0).budget.programs == 50  # begins as the campaign does: iteration 1 is shared
    with pytest.raises(
        ConfigError, match=r"budget\.programs: 99 .*\(50 at each of 2 temperatures\); give at least 100"
    ):
        with_budget(99, first=1.3)
    assert with_budget(100, first=1.3).budget.programs == 100
