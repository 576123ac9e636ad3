"""The worker's process from its start to its end, whoever starts it and whenever it is ended."""

from __future__ import annotations

import threading
import time

import psutil
import pytest

from selfdev_core.records import Level
from selfdev_core.sandbox import cgroup, layers
from selfdev_core.sandbox.bundle import Bundle
from selfdev_core.sandbox.client import Sandbox
from selfdev_core.sandbox.layers import SandboxError
from selfdev_core.sandbox.worker import Worker

each_level = pytest.mark.parametrize("level", layers.available())
AVERAGE = "def merge_models(model_dict, device):\n    return 0.5 * sum(model_dict.values())\n"


def processes_of(worker: Worker) -> list[psutil.Process]:
    """All of a worker: at `strict` two, once the first has entered its namespaces."""
    outer = psutil.Process(worker.process.pid)
    deadline = time.monotonic() + 20.0
    while worker.level == "strict" and not outer.children() and time.monotonic() < deadline:
        time.sleep(0.01)
    return [outer, *outer.children(recursive=True)]


def _alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def gone(processes: list[psutil.Process]) -> bool:
    """Within half a second: loading takes longer."""
    deadline = time.monotonic() + 0.5
    while _alive(processes) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not _alive(processes)


@each_level
def test_a_sandbox_takes_a_worker_that_is_loading_already_with_its_level_and_ends_it(
    bundle: Bundle, level: Level
) -> None:
    worker = Worker(level, keep_memory=True)
    with Sandbox({"probes": bundle}, 30.0, 1.0, worker=worker) as sandbox:
        sandbox.warm()
        run = sandbox.run(AVERAGE, "probes")
        assert run.reason == "accepted" and sandbox._worker is worker and sandbox.level == level
        processes = processes_of(worker)
    assert len(processes) >= (2 if level == "strict" else 1) and not _alive(processes)
    with Sandbox({"probes": bundle}, 30.0, 1.0, level=level) as usual:
        assert all((usual.run(AVERAGE, "probes").tensors[name] == t).all() for name, t in run.tensors.items())


@each_level
def test_a_worker_lives_on_when_the_thread_that_had_it_started_ends(bundle: Bundle, level: Level) -> None:
    with Sandbox({"probes": bundle}, 30.0, 1.0, level=level) as sandbox:
        first = threading.Thread(target=lambda: sandbox.run(AVERAGE, "probes"))
        first.start()
        first.join()
        worker = sandbox._worker
        assert worker is not None
        processes = processes_of(worker)
        time.sleep(0.3)
        assert set(processes[: 2 if level == "strict" else 1]) <= set(_alive(processes))
        assert sandbox.run(AVERAGE, "probes").reason == "accepted" and sandbox._worker is worker


@each_level
def test_nothing_is_left_of_a_worker_that_is_ended_while_it_loads(
    level: Level, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cgroup, "around", lambda pid: None)  # as where the machine lets us make none
    with Worker(level, keep_memory=False) as worker:
        processes = processes_of(worker)
    assert gone(processes)
    assert capfd.readouterr().err == ""


@each_level
def test_a_worker_that_waits_for_its_bundles_ends_quietly_when_the_trusted_side_is_gone(
    level: Level, capfd: pytest.CaptureFixture[str]
) -> None:
    with Worker(level, keep_memory=False) as worker:
        processes = processes_of(worker)
        worker.control.close()
        assert worker.process.wait(60) == 0
        assert not _alive(processes)
    assert capfd.readouterr().err == ""


def test_a_worker_that_was_killed_meanwhile_is_replaced_by_the_sandbox(bundle: Bundle) -> None:
    worker = Worker(layers.grant(None), keep_memory=False)
    worker.process.kill()
    worker.process.wait()
    with Sandbox({"probes": bundle}, 30.0, 1.0, worker=worker) as sandbox:
        assert sandbox.run(AVERAGE, "probes").reason == "accepted"
        assert sandbox._worker is not worker


def test_what_keeps_a_worker_from_starting_is_told_in_its_own_words_each_time(bundle: Bundle) -> None:
    lost = bundle._replace(path=bundle.path.with_name("not-there.safetensors"))
    with Sandbox({"probes": lost}, 30.0, 1.0) as sandbox:
        sandbox.warm()
        for _ in range(2):
            with pytest.raises(SandboxError, match="not-there"):
                sandbox.run(AVERAGE, "probes")
            assert sandbox._worker is None
            sandbox._kill(1)  # what another thread may do now
