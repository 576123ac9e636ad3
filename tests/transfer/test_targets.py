"""Targets of a transfer: their names, their splits, and every refusal before any work starts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.baselines_cli import baselines
from selfdev_core.config import CampaignConfig, TransferTarget
from selfdev_core.errors import CheckpointError, ConfigError, SelfdevError
from selfdev_core.evaluation.questions import QuestionBlock
from selfdev_core.prepare import Prepared, prepare
from selfdev_core.transfer_file import with_targets
from selfdev_core.workspace import workspace_of
from tests.report.synthetic import campaign
from tests.transfer.conftest import Setting


def refused(setting: Setting, message: str, kind: type[SelfdevError] = ConfigError) -> None:
    with pytest.raises(kind, match=message):
        setting.prepare()
    assert not (setting.root / "store" / "records").exists()


def test_programs_find_the_experts_of_another_set_under_the_names_they_know(ready: Prepared) -> None:
    (target,) = ready.targets
    assert [ref.name for ref in target.plan.models.experts] == ["maths", "code"]
    assert target.own_names == {"maths": "alpha", "code": "beta"}
    assert target.plan.models.seed.sha256 != ready.plan.models.seed.sha256
    assert target.plan.prompt == ready.plan.prompt and not target.same_test
    known = {ref.sha256 for plan in (ready.plan, target.plan) for ref in (plan.models.seed, *plan.models.experts)}
    assert set(ready.settings.models) == known


def test_without_names_experts_keep_their_own(setting: Setting) -> None:
    del setting.target["names"]
    (target,) = setting.prepare().targets
    assert [ref.name for ref in target.plan.models.experts] == ["alpha", "beta"]


def test_no_test_question_of_either_set_is_stored_beforehand(ready: Prepared, setting: Setting) -> None:
    stored = {
        json.loads(path.read_text())["body"]["split"]: path
        for path in (setting.root / "store" / "records" / "questions").rglob("*.json")
    }
    assert set(stored) == {"search", "validation"}
    sealed = ready.targets[0].plan.sealed.sha256
    assert workspace_of(ready.settings).store.read("questions", sealed, QuestionBlock) is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"physics": "alpha"}, r"transfer\.other\.names: the campaign has no expert 'physics'; it has maths, code"),
        ({"maths": "gamma"}, r"transfer\.other\.names: this set has no expert 'gamma'; it has alpha, beta"),
        ({"maths": "alpha", "code": "alpha"}, r"two experts of the campaign must not be one here"),
    ],
)
def test_names_are_checked(setting: Setting, names: dict[str, str], message: str) -> None:
    setting.target["names"] = names
    refused(setting, message)


def test_a_name_may_not_be_given_to_two(setting: Setting, there: Any) -> None:
    setting.target["models"]["experts"]["maths"] = str(there.experts["beta"])
    setting.target["names"] = {"maths": "alpha"}
    refused(setting, "nor two here one there")


@pytest.mark.parametrize("split", ["search", "validation"])
def test_what_tests_here_must_not_tune_there(setting: Setting, split: str) -> None:
    shutil.copy(setting.root / "here" / "test.jsonl", setting.root / "there" / f"{split}.jsonl")
    refused(setting, rf"stands in the campaign's test split and in transfer\.other's {split} split")


@pytest.mark.parametrize("split", ["search", "validation"])
def test_what_picked_here_must_not_test_there(setting: Setting, split: str) -> None:
    shutil.copy(setting.root / "here" / f"{split}.jsonl", setting.root / "there" / "test.jsonl")
    refused(setting, rf"stands in transfer\.other's test split and in the campaign's {split} split")


def test_the_same_splits_on_both_sides_are_allowed_and_told(setting: Setting) -> None:
    setting.target["questions"] = setting.questions("here")
    (target,) = setting.prepare().targets
    assert target.same_test


def test_a_set_that_does_not_fit_is_named(setting: Setting, save_pico: Any) -> None:
    setting.target["models"]["experts"]["beta"] = str(save_pico(setting.root / "wide", 5, intermediate_size=64))
    refused(setting, r"transfer\.other: .*", CheckpointError)
    setting.target["models"]["experts"]["beta"] = "nowhere/at/all"
    refused(setting, "nowhere", CheckpointError)


def test_baselines_look_at_no_other_set(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    target = {"models": {"seed": "lab/seed", "experts": {"a": "lab/a"}}, "questions": {"family": "transfer"}}
    setting.raw["transfer"] = {"far": target}
    refused(setting, "not in the Hub's cache", CheckpointError)  # the campaign itself needs it
    ready: list[Prepared] = []

    def prepare_only(config: CampaignConfig, *_: object) -> None:
        ready.append(prepare(config))
        raise InterruptedError

    monkeypatch.setattr("flows.run.run_flow", prepare_only)
    with pytest.raises(InterruptedError):
        baselines(setting.root / "campaign.yaml")
    assert ready[0].targets == () and ready[0].plan.config.name == "mine-baselines"
    setting.raw["transfer"] = {}
    own = setting.prepare()  # as the campaign asks, and so into the same records
    assert (own.plan.models, own.plan.search, own.plan.decoding, own.validation) == (
        ready[0].plan.models, ready[0].plan.search, ready[0].plan.decoding, ready[0].validation,
    )  # fmt: skip


def test_a_file_of_targets_is_read_like_the_section(tmp_path: Path) -> None:
    result = campaign().model_copy(update={"config": _config()})
    path = tmp_path / "other.yaml"
    path.write_text("other:\n  models: {seed: ./s, experts: {a: ./a}}\n  questions: {family: transfer}\n")
    found = with_targets(result, path).transfer["other"]
    assert found.models.seed == str(tmp_path / "s") and found.names == {}


def test_the_campaigns_own_set_is_known_without_the_commits_that_its_result_names(tmp_path: Path) -> None:
    commit = "0123456789" * 4
    pinned = {"seed": f"lab/seed@{commit}", "experts": {"a": f"lab/a@{commit}", "b": "lab/b@v1"}}
    home = {"models": pinned, "questions": {"family": "transfer"}}
    result = campaign().model_copy(update={"config": _config() | {"transfer": {"home": home}}})
    path = tmp_path / "other.yaml"

    def given(seed: str, first: str, second: str = "lab/b@v1") -> TransferTarget:
        models = {"seed": seed, "experts": {"a": first, "b": second}}
        path.write_text(json.dumps({"home": {"models": models, "questions": {"family": "transfer"}}}))
        return with_targets(result, path).transfer["home"]

    for seed, first in (("lab/seed", "lab/a"), (f"lab/seed@{commit}", "lab/a")):
        assert given(seed, first).models.model_dump(include={"seed", "experts"}) == pinned
    for seed, first, second in (
        ("lab/seed@main", "lab/a", "lab/b@v1"),
        ("lab/other", "lab/a", "lab/b@v1"),
        ("lab/seed", "lab/a", "lab/b@v2"),
    ):
        with pytest.raises(ConfigError, match="'home' is another set in the campaign's"):
            given(seed, first, second)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a mapping of targets"),
        ("{}", "names no target"),
        ("other: {models: {family: transfer}}", r"transfer\.other\.questions: Field required"),
        ("Other!: {models: {family: transfer}, questions: {family: transfer}}", r"transfer\.Other!"),
        (
            "home: {models: {family: transfer}, questions: {family: transfer}}",
            "'home' is another set in the campaign's",
        ),
    ],
)
def test_a_wrong_file_of_targets_is_refused_by_file_and_field(tmp_path: Path, text: str, message: str) -> None:
    result = campaign().model_copy(update={"config": _config()})
    (tmp_path / "other.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as refusal:
        with_targets(result, tmp_path / "other.yaml")
    assert "other.yaml" in str(refusal.value)


def test_only_a_finished_campaign_with_a_winner_has_something_to_transfer(tmp_path: Path) -> None:
    result = campaign().model_copy(update={"config": _config()})
    with pytest.raises(ConfigError, match="is not finished"):
        with_targets(result.model_copy(update={"finished": False}), tmp_path / "x.yaml")
    with pytest.raises(ConfigError, match="found no winner"):
        with_targets(result.model_copy(update={"winner": ""}), tmp_path / "x.yaml")


def _config() -> dict[str, Any]:
    family = {"family": "arithmetic"}
    home = {"models": {"family": "arithmetic"}, "questions": {"family": "transfer"}}
    return {"name": "miniature", "models": family, "questions": family, "transfer": {"home": home}}
