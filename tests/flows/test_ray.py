"""The campaign on Ray: the same result as in threads, and a Ray worker or node that dies costs only what it had not stored."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from benchmarks.loop import essence
from flows.names import campaign_tags
from tests.flows.conftest import TINY, command, environment_of
from tests.flows.test_campaign import api, result_of


@pytest.mark.slow
def test_a_campaign_on_ray_ends_as_in_threads_though_a_worker_is_killed(finished: Path, tmp_path: Path) -> None:
    file = on_ray("killed", tmp_path)
    with running(file, finished, tmp_path) as process:
        kept = wait_for_scorecards(process, file)
        victim = None
        while victim is None:
            assert process.poll() is None, output(tmp_path)
            victim = next((one for one in descendants(process.pid) if "ray::evaluate" in " ".join(one.cmdline())), None)
        kept |= written(file)
        victim.kill()
        assert process.wait(timeout=900) == 0, output(tmp_path)
    assert "its worker process died; it is done again" in output(tmp_path)
    after = written(file)
    assert all(after[path] == when for path, when in kept.items())
    assert essence(result_of(finished, "killed")) == essence(result_of(finished))
    wanted = {"state": {"type": {"any_": ["CRASHED"]}}, "tags": {"all_": list(campaign_tags("killed"))}}
    deadline = time.monotonic() + 20
    while not (crashed := api(finished, "/task_runs/filter", task_runs=wanted)) and time.monotonic() < deadline:
        time.sleep(0.5)  # the server records states a moment later
    assert [run["name"].startswith("evaluate") for run in crashed] == [True]
    running_still = {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}
    assert api(finished, "/task_runs/filter", task_runs=running_still) == []


@pytest.mark.slow
def test_a_cluster_with_gpus_may_lose_a_node(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes on this machine that claim a GPU each, of which Ray only keeps count. Models on GPUs compute in bfloat16, so
    what it must equal is a campaign on such nodes that lost none."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("SELFDEV_HOME", str(finished))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    node = {"num_cpus": 1, "num_gpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        second = cluster.add_node(**node)
        settings = f'ray_address: "{cluster.address}", gpus_per_worker: 1, '
        whole = on_ray("whole", tmp_path, settings, iterations=1)
        with running(whole, finished, tmp_path) as process:
            assert process.wait(timeout=900) == 0, output(tmp_path)
        file = on_ray("lost", tmp_path, settings, iterations=1)
        with running(file, finished, tmp_path) as process:
            kept = wait_for_scorecards(process, file)
            cluster.remove_node(second, allow_graceful=False)
            assert process.wait(timeout=900) == 0, output(tmp_path)
    finally:
        cluster.shutdown()
    after = written(file)
    assert all(after[path] == when for path, when in kept.items())
    assert essence(result_of(finished, "lost")) == essence(result_of(finished, "whole"))


def on_ray(name: str, folder: Path, settings: str = "", iterations: int = 2) -> Path:
    """The tiny campaign on Ray, with a store of its own."""
    file = folder / f"{name}.yaml"
    text = TINY.replace("resources: {", f"resources: {{runner: ray, {settings}")
    text = text.replace("iterations: 2", f"iterations: {iterations}")
    file.write_text(text.replace("name: tiny", f"name: {name}\nstore: store-{name}"), encoding="utf-8")
    return file


@contextmanager
def running(file: Path, home: Path, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command("run", str(file)), env=environment_of(home), stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def output(folder: Path) -> str:
    return (folder / "log.txt").read_text(errors="replace")


def written(file: Path) -> dict[Path, int]:
    return {
        path: path.stat().st_mtime_ns
        for path in (file.parent / f"store-{file.stem}/records/scorecards").rglob("*.json")
    }


def wait_for_scorecards(process: subprocess.Popen[bytes], file: Path) -> dict[Path, int]:
    deadline = time.monotonic() + 600
    while len(written(file)) < 3:
        assert process.poll() is None and time.monotonic() < deadline, output(file.parent)
        time.sleep(0.05)
    return written(file)


def descendants(pid: int) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        try:
            process.cmdline()
            found.append(process)
        except psutil.Error:
            continue
    return found
