"""Whatever can be refused is refused before any work starts, by the name of the field or file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfdev_core.config import load_campaign
from selfdev_core.errors import CheckpointError, ConfigError, SelfdevError, StoreError
from selfdev_core.evaluation.questions import QuestionBlock
from selfdev_core.evaluation.sources import load_questions
from selfdev_core.prepare import Prepared, open_test_split, prepare
from selfdev_core.sandbox.cuda import CudaExecutor
from selfdev_core.workspace import close_workspaces, workspace_of


class Campaign:
    """A folder with a complete small campaign: models, questions, file. Tests damage one thing in it."""

    def __init__(self, root: Path, pico: Any, write_questions: Callable[..., Path]) -> None:
        self.root = root
        shutil.copytree(pico.seed, root / "seed")
        for name, folder in pico.experts.items():
            shutil.copytree(folder, root / name)
        for i, split in enumerate(("search", "validation", "test")):
            write_questions(root / f"{split}.jsonl", 4, start=10 * i)
        self.raw: dict[str, Any] = {
            "name": "mine",
            "models": {"seed": "seed", "experts": {"alpha": "alpha", "beta": "beta"}},
            "questions": {f"{split}_file": f"{split}.jsonl" for split in ("search", "validation", "test")}
            | {"search": 3, "validation": 4, "test": 4},
            "store": "store",
        }

    def prepare(self) -> Prepared:
        path = self.root / "campaign.yaml"
        path.write_text(yaml.safe_dump(self.raw, sort_keys=False))
        return prepare(load_campaign(path))

    def refused(self, kind: type[SelfdevError], message: str) -> None:
        with pytest.raises(kind, match=message):
            self.prepare()
        assert not (self.root / "store" / "records").exists()


@pytest.fixture
def campaign(tmp_path: Path, pico: Any, write_questions: Callable[..., Path]) -> Iterator[Campaign]:
    yield Campaign(tmp_path, pico, write_questions)


def test_a_sound_campaign_is_resolved_to_content(campaign: Campaign) -> None:
    prepared = campaign.prepare()
    try:
        models = prepared.plan.models
        assert [ref.name for ref in models.experts] == ["alpha", "beta"] and models.scope == "mlp"
        assert prepared.settings.models[models.seed.sha256] == str(campaign.root / "seed")
        assert (prepared.plan.search.split, prepared.plan.search.count) == ("search", 3)
        assert (prepared.validation.split, prepared.validation.count) == ("validation", 4)
        assert prepare(prepared.plan.config) == prepared
    finally:
        close_workspaces(prepared.settings)


def test_the_test_split_is_not_in_the_store_before_it_is_opened(campaign: Campaign) -> None:
    prepared = campaign.prepare()
    workspace = workspace_of(prepared.settings)
    try:
        sealed = load_questions(prepared.plan.config.questions, "test")
        assert workspace.store.read("questions", sealed.digest, QuestionBlock) is None
        opened = open_test_split(prepared.plan, "a-1", ("seed",), workspace)
        assert opened.sha256 == sealed.digest
        assert workspace.store.read("questions", sealed.digest, QuestionBlock) == sealed
    finally:
        close_workspaces(prepared.settings)


def test_missing_models_are_named(campaign: Campaign) -> None:
    campaign.raw["models"]["experts"]["beta"] = "nowhere"
    campaign.refused(CheckpointError, r"nowhere: no such checkpoint folder")
    campaign.raw["models"]["seed"] = "search.jsonl"
    campaign.refused(CheckpointError, r"search\.jsonl: no such checkpoint folder")


def test_a_truncated_checkpoint_is_named(campaign: Campaign) -> None:
    path = campaign.root / "beta" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    campaign.refused(CheckpointError, r"beta/model\.safetensors: is truncated")


def test_an_expert_of_another_shape_is_named(campaign: Campaign, save_pico: Callable[..., Path]) -> None:
    save_pico(campaign.root / "wide", 3, intermediate_size=64)
    campaign.raw["models"]["experts"]["wide"] = "wide"
    campaign.refused(CheckpointError, r"models\.experts\.wide \(.*wide\): model\.layers\.0\.mlp\..* has shape")


def test_an_expert_with_another_tokenizer_is_named(campaign: Campaign) -> None:
    path = campaign.root / "alpha" / "tokenizer.json"
    content = json.loads(path.read_text())
    words = content["model"]["vocab"]
    words["a"], words["b"] = words["b"], words["a"]
    path.write_text(json.dumps(content))
    campaign.refused(
        CheckpointError,
        r"models\.experts\.alpha .*tokenizer\.json differs from the seed's \(2 tokens of \d+ with another",
    )


def test_weights_that_are_not_finite_are_named(campaign: Campaign) -> None:
    from safetensors.torch import load_file, save_file

    path = campaign.root / "alpha" / "model.safetensors"
    weights = load_file(path)
    weights["model.layers.0.mlp.gate_proj.weight"][3, 3] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})
    campaign.refused(CheckpointError, r"alpha \(.*\): model\.layers\.0\.mlp\.gate_proj\.weight holds NaN")


@pytest.mark.parametrize("split", ["search", "validation", "test"])
def test_missing_empty_and_short_question_files_are_named(campaign: Campaign, split: str) -> None:
    path = campaign.root / f"{split}.jsonl"
    campaign.raw["questions"][split] = 50
    campaign.refused(ConfigError, rf"questions\.{split}: asks for 50 questions, .*holds 4; lower questions\.{split}")
    path.write_text("\n")
    campaign.refused(ConfigError, rf"questions\.{split}_file: .*{split}\.jsonl holds no question")
    path.unlink()
    campaign.refused(ConfigError, rf"questions\.{split}_file: cannot read .*{split}\.jsonl")


@pytest.mark.parametrize(("one", "other"), [("search", "validation"), ("search", "test"), ("validation", "test")])
def test_a_question_in_two_splits_is_named_with_both(campaign: Campaign, one: str, other: str) -> None:
    line = (campaign.root / f"{one}.jsonl").read_text().splitlines()[1]
    path = campaign.root / f"{other}.jsonl"
    path.write_text(line + "\n" + path.read_text())
    campaign.refused(ConfigError, rf"questions: 'What is \d+ \+ 1\?' stands in both {one} and {other}")


def test_a_missing_prompt_file_is_named(campaign: Campaign) -> None:
    campaign.raw["factory"] = {"prompt": "papr"}
    campaign.refused(ConfigError, r"factory\.prompt: cannot read .*papr")


def test_a_store_that_cannot_be_written_is_named(campaign: Campaign) -> None:
    campaign.raw["store"] = "search.jsonl/store"
    campaign.refused(StoreError, r"search\.jsonl/store: cannot be written .*`store:`")


def test_a_gpu_that_is_not_there_is_refused(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for device, there in (("cuda", False), ("cuda:1", True)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        campaign.raw["sandbox"] = {"device": device}
        campaign.refused(ConfigError, rf"sandbox\.device: '{device}' is not there")


def test_a_gpu_that_is_there_gets_the_merges(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    campaign.raw["sandbox"] = {"device": "cuda:0"}
    prepared = campaign.prepare()
    workspace = workspace_of(prepared.settings)
    try:
        merger = workspace.merger(prepared.plan.models, prepared.plan.limits)
        assert isinstance(merger, CudaExecutor) and merger.device == "cuda:0"
        assert merger.jail is workspace.sandbox(prepared.plan.models, prepared.plan.limits)
    finally:
        close_workspaces(prepared.settings)


def test_ray_without_its_libraries_is_refused(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    campaign.raw["resources"] = {"runner": "ray"}
    campaign.refused(ConfigError, r"resources.runner: ray needs ray and prefect_ray: pip install selfdev\[ray\]")
