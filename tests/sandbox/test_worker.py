"""A worker that is started before there is anything to run on."""

from __future__ import annotations

import time
from contextlib import suppress

import psutil
import pytest

from selfdev_core.records import Level
from selfdev_core.sandbox import layers
from selfdev_core.sandbox.bundle import Bundle
from selfdev_core.sandbox.client import Sandbox
from selfdev_core.sandbox.layers import SandboxError
from selfdev_core.sandbox.worker import Worker

each_level = pytest.mark.parametrize("level", layers.available())
AVERAGE = "def merge_models(model_dict, device):\n    return 0.5 * sum(model_dict.values())\n"


def _ended(processes: list[psutil.Process], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes):
            return True
        time.sleep(0.05)
    return False


@each_level
def test_a_sandbox_takes_a_worker_that_is_loading_already_and_ends_it(bundle: Bundle, level: Level) -> None:
    worker = Worker(level, keep_memory=True)
    with Sandbox({"probes": bundle}, 30.0, 1.0, level=level, worker=worker) as sandbox:
        sandbox.warm()
        run = sandbox.run(AVERAGE, "probes")
        assert run.reason == "accepted" and sandbox._worker is worker
        own = [worker.process.pid, *(child.pid for child in psutil.Process(worker.process.pid).children(True))]
        processes = [psutil.Process(pid) for pid in own]
    assert _ended(processes)
    with Sandbox({"probes": bundle}, 30.0, 1.0, level=level) as usual:
        assert all((usual.run(AVERAGE, "probes").tensors[name] == t).all() for name, t in run.tensors.items())


@each_level
@pytest.mark.parametrize("after", [0.0, 0.3])
def test_a_worker_that_is_ended_before_it_has_heard_anything_goes_without_a_word(
    level: Level, after: float, capfd: pytest.CaptureFixture[str]
) -> None:
    with Worker(level, keep_memory=False) as worker:
        time.sleep(after)
        processes = [psutil.Process(worker.process.pid)]
        with suppress(psutil.NoSuchProcess):
            processes += processes[0].children(recursive=True)
    assert _ended(processes)
    assert capfd.readouterr().err == ""


def test_a_worker_that_was_killed_meanwhile_is_replaced_by_the_sandbox(bundle: Bundle) -> None:
    level = layers.grant(None)
    worker = Worker(level, keep_memory=False)
    worker.process.kill()
    worker.process.wait()
    with Sandbox({"probes": bundle}, 30.0, 1.0, level=level, worker=worker) as sandbox:
        assert sandbox.run(AVERAGE, "probes").reason == "accepted"
        assert sandbox._worker is not worker


def test_what_keeps_a_worker_from_starting_is_told_in_its_own_words(bundle: Bundle) -> None:
    worker = Worker(layers.grant(None), keep_memory=False)
    lost = bundle._replace(path=bundle.path.with_name("not-there.safetensors"))
    with pytest.raises(SandboxError, match="not-there"):
        worker.open({"probes": lost})
    assert not worker.alive()
