"""A whole campaign with `engine.kind: vllm`, and another one that goes on with it after a kill."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from selfdev_core.assemble import load_result
from tests.flows.conftest import TINY, command, environment_of


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("campaign-home")
    yield folder
    subprocess.run(command("server", "stop"), env=environment_of(folder), check=True, capture_output=True)


@pytest.fixture(scope="module")
def file(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("campaign") / "tiny.yaml"
    engine = f"engine: {{kind: vllm, python: {python}, gpus: 0, kv_cache_gb: 0.25}}\n"
    path.write_text(TINY + engine, encoding="utf-8")
    return path


def _selfdev(home: Path, *arguments: str) -> str:
    done = subprocess.run(command(*arguments), env=environment_of(home), capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _engines(home: Path) -> set[int]:
    """Processes of engines that campaigns of this home started."""
    found = set()
    for process in psutil.process_iter():
        try:
            ours = any("selfdev_in_vllm" in word for word in process.cmdline())
            if ours and process.environ().get("SELFDEV_HOME") == str(home):
                found.add(process.pid)
        except psutil.Error:
            pass
    return found


def _scorecards(home: Path) -> int:
    return sum(path.is_file() for path in (home / "store").rglob("scorecards/**/*"))


def test_ctrl_c_leaves_no_engine(home: Path, file: Path) -> None:
    run = subprocess.Popen(
        command("run", str(file)), env=environment_of(home), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 600
    while not _scorecards(home) and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.5)
    assert _engines(home)
    run.send_signal(signal.SIGINT)
    said, _ = run.communicate(timeout=120)
    assert run.returncode == 130 and "Stopped." in said, said
    assert _engines(home) == set()


def test_a_campaign_runs_from_end_to_end(home: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _selfdev(home, "run", str(file))
    assert _engines(home) == set()
    monkeypatch.setenv("SELFDEV_HOME", str(home))
    result = load_result("tiny")
    assert result.finished and result.winner
    seed = next(row for row in result.leaderboard if row.subject == "seed")
    winner = next(row for row in result.leaderboard if row.subject == result.winner)
    assert seed.test is not None and winner.test is not None
    assert len(seed.test.outcomes) == len(winner.test.outcomes) > 0
    assert 0.05 < seed.test.score < 1.0  # it really answers
    assert any(one.pairs for one in result.iterations) and all(one.valid_share > 0 for one in result.iterations)
    assert list((home / "vllm").glob("*.log")) == []  # no engine failed


def test_run_again_it_is_all_there_and_no_engine_starts(home: Path, file: Path) -> None:
    (home / "vllm").rename(home / "vllm-before")
    _selfdev(home, "run", str(file))
    assert not list(home.glob("vllm/*.log")) and not (home / "vllm").exists()


def test_by_transformers_it_is_another_campaign(home: Path, file: Path, tmp_path: Path) -> None:
    """Nothing that vLLM found is taken for an answer of transformers."""
    other = tmp_path / "tiny.yaml"
    other.write_text(TINY, encoding="utf-8")
    before = _scorecards(home)
    _selfdev(home, "run", str(other))
    assert _scorecards(home) > before > 0


def test_ray_is_refused(home: Path, file: Path, tmp_path: Path) -> None:
    other = tmp_path / "tiny.yaml"
    text = file.read_text(encoding="utf-8").replace("resources: {chunk_size: 6}", "resources: {runner: ray}")
    assert "ray" in text
    other.write_text(text, encoding="utf-8")
    done = subprocess.run(command("run", str(other)), env=environment_of(home), capture_output=True, text=True)
    assert done.returncode == 2 and "engine.kind: vllm" in done.stderr
