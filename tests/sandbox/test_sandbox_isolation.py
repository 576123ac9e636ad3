"""What one program does reaches no other program, and nothing of ours reaches a program."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from selfdev_core.sandbox.bundle import Bundle
from selfdev_core.sandbox.client import Sandbox

pytestmark = pytest.mark.usefixtures("healthy")
AVERAGE = "def merge_models(model_dict, device):\n    return 0.5 * sum(model_dict.values())\n"


def _processes_with(word: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name = (entry / "comm").read_text()
                state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
            except OSError:
                continue
            if word in name and state != "Z":
                found.append(int(entry.name))
    return found


def _gone(word: str, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while _processes_with(word) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not _processes_with(word)


_NAMED = "import ctypes, os, signal, time\nctypes.CDLL(None).prctl(15, b'{name}')\n"


def test_monkeypatching_reaches_no_other_program(sandbox: Sandbox) -> None:
    patches = (
        "import torch, math, numpy, builtins, sys\n"
        "torch.randn = torch.Tensor.__mul__ = torch.Tensor.__rmul__ = math.sqrt = numpy.mean = lambda *a, **k: 1 / 0\n"
        "builtins.sum = None\nsys.modules['torch'] = None\ntorch.manual_seed = None\n"
    )
    run = sandbox.run(patches + AVERAGE, "probes")
    assert run.reason == "exception"
    assert sandbox.run(AVERAGE, "probes").reason == "accepted"


def test_a_global_left_behind_is_gone(sandbox: Sandbox) -> None:
    assert sandbox.run("import torch\ntorch.left_behind = 1\n" + AVERAGE, "probes").reason == "accepted"
    run = sandbox.run("import torch\nassert not hasattr(torch, 'left_behind')\n" + AVERAGE, "probes")
    assert run.reason == "accepted", run.detail


def test_the_environment_holds_no_variable_of_ours(sandbox: Sandbox) -> None:
    assert os.environ["SELFDEV_TEST_SECRET"] == "hunter2"
    source = "import os\nassert not any('SECRET' in k or 'PATH' in k or 'HOME' in k for k in os.environ), os.environ\n"
    source += "assert not os.environ, dict(os.environ)\n"
    run = sandbox.run(source + AVERAGE, "probes")
    assert run.reason == "accepted", run.detail


def test_no_descriptor_is_open_but_the_result_pipe_and_three_that_lead_nowhere(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    with (tmp_path / "questions.jsonl").open("w"):
        source = (
            "import os, stat\nopened = {}\nfor fd in range(4096):\n"
            "    try: opened[fd] = os.fstat(fd).st_mode\n    except OSError as error: assert error.errno in (1, 9), error\n"
            "assert len(opened) in (0, 4), opened\n"
            "closed = 0\nfor fd in range(4, 4096):\n"
            "    try: os.read(fd, 1)\n    except OSError as error: closed += error.errno == 9\n"
            "assert closed == 4092, closed\nassert os.read(0, 1) == b''\n"
        )
        run = sandbox.run(source + AVERAGE, "probes")
    assert run.reason == "accepted", run.detail


def test_no_module_that_knows_questions_or_scores_is_loaded(sandbox: Sandbox) -> None:
    source = (
        "import sys\nknown = sorted(m for m in sys.modules if m.startswith('selfdev_core.'))\n"
        "assert not any(part in m for m in known for part in ('evaluation', 'store', 'stages', 'config')), known\n"
    )
    run = sandbox.run(source + AVERAGE, "probes")
    assert run.reason == "accepted", run.detail


def test_random_programs_give_the_same_tensors_in_every_run_and_every_worker_also_after_the_death_of_one(
    bundle: Bundle, sandbox: Sandbox
) -> None:
    import torch

    source = (
        "import torch, numpy, statistics\n"
        "def merge_models(model_dict, device):\n"
        "    first = sorted(set(model_dict), key=hash)[0]\n"
        "    noise = torch.rand(()) + numpy.random.rand() + statistics.random.random()\n"
        "    return model_dict[first] * float(noise) * torch.bernoulli(torch.full_like(model_dict[first], 0.5))\n"
    )
    runs = [sandbox.run(source, "probes"), sandbox.run(source, "probes")]
    with Sandbox({"probes": bundle}, 30.0, 1.0) as other:
        runs += [other.run(source, "probes")]
        assert other._worker is not None
        other._worker.process.kill()
        runs += [other.run(source, "probes")]
    assert [run.reason for run in runs] == ["accepted"] * 4, runs[0].detail
    for name, tensor in runs[0].tensors.items():
        assert all(torch.equal(run.tensors[name], tensor) for run in runs[1:])


@pytest.fixture
def plain(bundle: Bundle) -> Iterator[Sandbox]:
    """Level `process`, where a program can reach its worker."""
    with Sandbox({"probes": bundle}, 30.0, 1.0, level="process") as one:
        one.run(AVERAGE, "probes")
        yield one


def test_at_level_process_a_program_that_stops_the_worker_is_named_and_ends_with_it(
    plain: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain, "seconds", 0.5)
    source = _NAMED.format(name="sd-stopper") + "os.kill(os.getppid(), 19)\ntime.sleep(600)\n" + AVERAGE
    run = plain.run(source, "probes")
    assert run.reason == "time-limit", run
    assert _gone("sd-stopper")


def test_at_level_process_a_program_that_kills_the_worker_is_named_and_its_neighbour_keeps_its_verdict(
    plain: Sandbox,
) -> None:
    killer = _NAMED.format(name="sd-killer") + "os.kill(os.getppid(), 9)\ntime.sleep(600)\n" + AVERAGE
    slow = "import time\ntime.sleep(0.3)\n" + AVERAGE
    found: dict[str, str] = {}
    threads = [
        threading.Thread(target=lambda key=key, source=source: found.update({key: plain.run(source, "probes").reason}))
        for key, source in (("slow", slow), ("killer", killer))
    ]
    for thread in threads:
        thread.start()
        time.sleep(0.1)
    for thread in threads:
        thread.join()
    assert found == {"slow": "accepted", "killer": "crashed"}
    assert _gone("sd-killer")


def test_the_memory_limit_counts_what_the_program_adds_not_what_the_worker_holds(sandbox: Sandbox) -> None:
    fits = "import torch\ndef merge_models(m, d):\n    x = torch.empty(600 * 2**18)\n    return 0.5 * sum(m.values())\n"
    run = sandbox.run(fits, "probes")  # 600 MiB under a limit of 1 GiB, beside a worker of 600 MB
    assert run.reason == "accepted", run.detail
    assert sandbox.run(fits.replace("600 *", "1100 *"), "probes").reason == "memory-limit"
