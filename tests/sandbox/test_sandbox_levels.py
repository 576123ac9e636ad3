"""Every level that this machine gives keeps out what it claims, and ends what it runs at its deadline."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from selfdev_core.records import Level
from selfdev_core.sandbox import layers
from selfdev_core.sandbox.bundle import Bundle
from selfdev_core.sandbox.client import Sandbox, SandboxError

AVERAGE = "def merge_models(model_dict, device):\n    return 0.5 * sum(model_dict.values())\n"
FILTERED = ("strict", "standard")
# What is tried when the program is defined; each must raise, or the program would be accepted.
ACTS = {
    "read a file": "open('/etc/passwd').read()",
    "read its own address": "open('/proc/self/maps').read()",
    "list a folder": "os.listdir('/')",
    "see whether a file exists": "os.stat('/etc/passwd')",
    "make a file": "open('{folder}/made', 'w')",
    "remove a file": "os.unlink('{folder}/there')",
    "make a folder": "os.mkdir('{folder}/made')",
    "make a link": "os.symlink('/etc/passwd', '{folder}/made')",
    "make memory a file": "os.memfd_create('made')",
    "connect by TCP": "socket.create_connection(('127.0.0.1', {port}), 1)",
    "send by UDP": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))",
    "open a unix socket": "socket.socket(socket.AF_UNIX)",
    "make a pair of sockets": "socket.socketpair()",
    "signal its worker": "os.kill(os.getppid(), 0)",
    "signal everybody": "os.kill(-1, 0)",
    "signal its group": "os.kill(0, 0)",
    "change its limits": "resource.setrlimit(resource.RLIMIT_CPU, (1, 1))",
    "become another user": "os.setuid(0)",
    "run another program": "os.execv('/bin/sh', ['sh'])",
    "make a pipe": "os.pipe()",
    "ask where another process runs": "os.sched_getaffinity(os.getppid())",
    "ask how much time another process has used": "time.clock_gettime((~os.getppid() << 3) | 2)",
}
EVERYWHERE = {
    "start a process": "os.fork()",
    "start a thread": "threading.Thread(target=print).start()",
    "make a file grow": "open('{folder}/made', 'w').write('x' * 100_000)",
}
_IMPORTS = "import os, socket, threading, ctypes, signal, time\ntry:\n    import resource\nexcept ImportError: pass\n"


@pytest.fixture(scope="module", params=layers.LEVELS)
def at_level(request: pytest.FixtureRequest, bundle: Bundle) -> Iterator[Sandbox]:
    if request.param not in layers.available():
        pytest.skip(f"this machine does not give {request.param}")
    with Sandbox({"probes": bundle}, 30.0, 1.0, level=request.param) as one:
        yield one


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that anybody may write to, with one file."""
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    tmp_path.chmod(0o777)
    (tmp_path / "there").write_text("still")
    yield tmp_path


def _filled(act: str, folder: Path, port: int) -> str:
    return _IMPORTS + act.format(folder=folder, port=port) + "\n" + AVERAGE


def test_a_filtered_level_refuses_every_act_with_an_error_that_the_program_meets(
    at_level: Sandbox, folder: Path
) -> None:
    if at_level.level not in FILTERED:
        pytest.skip("process does not claim it")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for name, act in (ACTS | EVERYWHERE).items():
            run = at_level.run(_filled(act, folder, port), "probes")
            assert run.reason == "exception", (name, run)
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.accept()
    assert [path.name for path in folder.iterdir()] == ["there"]
    assert (folder / "there").read_text() == "still"
    assert at_level.run(AVERAGE, "probes").reason == "accepted"


@pytest.mark.skipif(sys.platform != "linux", reason="threads count as processes on Linux only")
def test_no_level_lets_a_program_start_a_process_or_a_thread_or_fill_a_disk(at_level: Sandbox, folder: Path) -> None:
    for name, act in EVERYWHERE.items():
        run = at_level.run(_filled(act, folder, 0), "probes")
        assert run.reason == "exception", (name, run)
    assert sum(path.stat().st_size for path in folder.iterdir()) == len("still")


def test_no_level_runs_a_program_as_root_or_with_a_capability(at_level: Sandbox) -> None:
    source = "import os\nassert os.getuid() and os.geteuid(), os.getuid()\n"
    run = at_level.run(source + AVERAGE, "probes")
    assert run.reason == "accepted", run.detail


def test_strict_hides_other_processes(at_level: Sandbox) -> None:
    run = at_level.run("import os\nassert os.getppid() == 1\n" + AVERAGE, "probes")
    assert (run.reason == "accepted") == (at_level.level == "strict")


@pytest.mark.parametrize("way", ["time.sleep(600)", "while True: pass", "os.kill(os.getpid(), 19)"])
def test_every_level_ends_a_program_within_half_a_second_of_its_deadline(
    at_level: Sandbox, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_level.run(AVERAGE, "probes")
    monkeypatch.setattr(at_level, "seconds", 0.3)
    ignoring = "for s in (1, 2, 3, 14, 15, 24): signal.signal(s, signal.SIG_IGN)\n"
    began = time.monotonic()
    run = at_level.run(_IMPORTS + ignoring + way + "\n" + AVERAGE, "probes")
    assert run.reason == "time-limit"
    assert time.monotonic() - began < 0.8


def test_a_program_may_ask_for_its_own_clocks_and_processors(at_level: Sandbox) -> None:
    source = "import os, time\nassert os.sched_getaffinity(0) == os.sched_getaffinity(os.getpid())\n"
    source += "assert time.process_time() > 0 and time.thread_time() > 0 and time.monotonic() > 0\ntime.sleep(0.001)\n"
    run = at_level.run(source + AVERAGE, "probes")
    assert run.reason == "accepted", run.detail


def test_a_system_call_by_another_numbering_ends_the_process(at_level: Sandbox) -> None:
    if at_level.level not in FILTERED or os.uname().machine != "x86_64":
        pytest.skip("x32 is a numbering of x86_64")
    run = at_level.run("import ctypes\nctypes.CDLL(None).syscall(0x40000000 + 39)\n" + AVERAGE, "probes")
    assert run.reason == "crashed" and "31" in run.detail, run


def test_a_level_that_cannot_be_had_is_an_error_and_no_weaker_level(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selfdev_core.starting._RUN", "import sys; root = {root!r}\n"
        "import os; os.fork = None\nfrom {module} import main; main({call})")  # fmt: skip
    with Sandbox({"probes": bundle}, 5.0, 1.0, level="strict") as one, pytest.raises(SandboxError, match="strict"):
        one.run(AVERAGE, "probes")


def test_a_machine_without_namespaces_gives_standard_and_says_what_to_enable(monkeypatch: pytest.MonkeyPatch) -> None:
    _, table = layers.protection()
    without = tuple(x._replace(fault="unshare: Operation not permitted") if "pid" in x.name else x for x in table)
    monkeypatch.setattr(layers, "protection", lambda: layers.Protection(("standard", "process"), without))
    for least in ("standard", "process", None):
        assert layers.grant(least) == "standard"
    with pytest.raises(SandboxError, match=r"(?s)'strict'.*'standard'.*unshare.*max_user_namespaces.*least_level"):
        layers.grant("strict")


@pytest.mark.parametrize(("platform", "least"), [("linux", "standard"), ("darwin", "process")])
def test_the_least_level_by_default_is_what_nearly_every_machine_of_its_kind_gives(
    platform: str, least: Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert layers.least_by_default() == least
