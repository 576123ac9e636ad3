"""An export comes to be whole or not at all, so that it can always be repeated."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psutil
import pytest

from selfdev_core import apply
from selfdev_core.config import CampaignConfig
from selfdev_core.errors import ConfigError, SelfdevError
from selfdev_core.merging.hub import Source
from selfdev_core.result import CampaignResult, Contender
from selfdev_core.sandbox import cgroup
from selfdev_core.sandbox.worker import Worker
from tests.sandbox.test_worker import gone, processes_of


@pytest.fixture
def result() -> CampaignResult:
    family = {"family": "arithmetic"}
    config = CampaignConfig.model_validate({"name": "mine", "models": family, "questions": family})
    row = Contender(subject="a-1", label="the best", kind="candidate", source="def merge_models(m, device): ...")
    return CampaignResult(
        name="mine",
        config=config.model_dump(mode="json"),
        finished=True,
        started_at="",
        conditions={},
        iterations=(),
        leaderboard=(row,),
        winner="a-1",
    )


@pytest.mark.parametrize("where", ["apply_program", "_card"])
@pytest.mark.parametrize("fault", [KeyboardInterrupt(), SelfdevError("cannot merge"), OSError("full")])
def test_an_export_that_ends_early_leaves_nothing_and_can_be_repeated(
    result: CampaignResult, tmp_path: Path, where: str, fault: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def merged(_source: str, _seed: object, _experts: object, _scope: str, out: Path, **_: Any) -> str:
        out.mkdir(parents=True)
        (out / "model.safetensors").touch()
        if where == "apply_program" and raised:
            raise raised.pop()
        return "0" * 64

    def card(*_: object) -> str:
        if where == "_card" and raised:
            raise raised.pop()
        return "# card\n"

    raised = [fault]
    monkeypatch.setattr(apply, "apply_program", merged)
    monkeypatch.setattr(apply, "_card", card)
    out = tmp_path / "deep" / "out"
    left = out.with_name(f".out.partial-{os.getpid()}")  # by one that was killed in another container
    (left / "model").mkdir(parents=True)
    with pytest.raises(ConfigError if isinstance(fault, OSError) else type(fault)):
        apply.export_winner(result, "winner", out)
    assert not [path for path in tmp_path.rglob("*") if path.name != "deep"]
    assert apply.export_winner(result, "winner", out) == out
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert files == ["README.md", "model/model.safetensors", "program.py"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    with pytest.raises(ConfigError, match="exists already"):
        apply.export_winner(result, "winner", out)


@pytest.mark.parametrize("where", ["write_bundles", "check_finite", "validate"])
def test_a_merge_that_ends_early_leaves_no_process_and_no_folder(
    pico: Any, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Noted(Worker):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            own.extend(processes_of(self))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    own: list[psutil.Process] = []
    monkeypatch.setattr(cgroup, "around", lambda pid: None)  # as where the machine lets us make none
    monkeypatch.setattr(apply, "Worker", Noted)
    monkeypatch.setattr(apply, where, interrupted)
    seed, experts = Source(pico.seed, "seed"), {name: Source(folder, name) for name, folder in pico.experts.items()}
    with pytest.raises(KeyboardInterrupt):
        apply.apply_program("def merge_models(m, d): ...", seed, experts, "mlp", tmp_path / "out", 5.0, 1.0)
    assert own and gone(own)
    assert not list(tmp_path.iterdir())
