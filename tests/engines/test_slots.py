"""Where vLLM engines go: on the GPUs that are asked for or that are here, else on the CPU."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from selfdev_core.engines.config import EngineConfig
from selfdev_core.engines.vllm.slots import Own, slots_of
from selfdev_core.errors import EngineError


def places(config: dict[str, int], tmp_path: Path) -> list[str | None]:
    found = slots_of(EngineConfig(kind="vllm", python=Path(sys.executable), **config), tmp_path)
    return [slot._gpus for slot in found if isinstance(slot, Own)]


@pytest.mark.parametrize(
    ("visible", "config", "expected"),
    [
        ("2,3,5", {}, ["2", "3", "5"]),
        ("2,3,5", {"tensor_parallel": 2}, ["2,3"]),
        ("2", {"tensor_parallel": 2}, [None]),
        ("-1", {}, [None]),
        ("", {}, [None]),
        ("0,1", {"gpus": 0}, [None]),
        ("4,6", {"gpus": 1}, ["4"]),
    ],
)
def test_engines_take_the_gpus_they_may_see_or_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str, config: dict[str, int], expected: list[str | None]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert places(config, tmp_path) == expected


def test_more_than_may_be_seen_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(EngineError, match="2 asked"):
        places({"gpus": 2}, tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(EngineError, match="1 asked, but CUDA_VISIBLE_DEVICES= lets us see 0"):
        places({"gpus": 1}, tmp_path)


def test_more_than_the_machine_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("selfdev_core.engines.vllm.slots._gpus_here", lambda: 2)
    assert places({}, tmp_path) == places({"gpus": 2}, tmp_path) == ["0", "1"]
    with pytest.raises(EngineError, match="8 asked, but this machine shows 2"):
        places({"gpus": 8}, tmp_path)
