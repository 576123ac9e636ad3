"""The positive control: a plain process that runs hostile programs with nothing to hold them.

An attack that does its harm here is no dud, so that the sandbox in which it does none deserves the credit.
Started as `python -m tests.security.control`; programs come in and reports go out as JSON lines.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from tests.security.world import REPOSITORY, World

SECRET = os.environ.get("SELFDEV_CANARY", "")  # for the programs that search memory


class Report(NamedTuple):
    """`ended`: how the program's process ended; `carried`: what it carried out; `lingers`: the next program differs."""

    ended: str
    carried: str
    lingers: bool


class Control:
    """The trusted side: one plain worker that forks a process per program."""

    def __init__(self, world: World) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.security.control", str(world.bundle.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            env=os.environ | {"SELFDEV_CANARY": world.secret, "OMP_NUM_THREADS": "1"},
            text=True,
        )
        self._line()  # it is warm

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def run(self, source: str, seconds: float) -> Report:
        """Ends the program after so many seconds."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([source, seconds]) + "\n")
        self._process.stdin.flush()
        return Report(**json.loads(self._line()))

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def _serve(bundle: Path) -> None:
    import torch

    from selfdev_core.sandbox import wire  # noqa: F401  (some programs look for it)
    from selfdev_core.sandbox.bundle import read_bundle
    from tests.security.examine import HARMLESS

    torch.set_num_threads(1)
    described, vectors = read_bundle(bundle)
    first = next(iter(described.shapes))
    right = _merge(HARMLESS, vectors[first])
    print("warm", flush=True)
    for line in sys.stdin:
        source, seconds = json.loads(line)
        told, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.setsid()
            os.close(told)
            os.close(0)
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 1)
                os.dup2(nowhere.fileno(), 2)
            _child(source, vectors[first], right, tell)
        os.close(tell)
        print(json.dumps(_report(pid, told, seconds)), flush=True)


def _child(source: str, originals: dict[str, Any], right: Any, tell: int) -> None:
    import torch

    from tests.security.examine import HARMLESS

    me = os.getpid()
    carried, lingers = "", False
    try:
        merged = _merge(source, originals)
        carried = bytes(int(v) if v == int(v) and 0 <= v < 256 else 0 for v in merged.flatten().tolist()).hex()
    except BaseException as error:
        carried = str(error).encode("utf-8", "replace").hex()
    if os.getpid() != me:
        os._exit(0)  # a child of the program's own
    try:
        lingers = not torch.equal(_merge(HARMLESS, originals), right)
    except BaseException:
        lingers = True
    os.write(tell, json.dumps({"carried": carried, "lingers": lingers}).encode())
    os._exit(0)


def _merge(source: str, originals: dict[str, Any]) -> Any:
    import torch

    torch.manual_seed(0)
    namespace: dict[str, Any] = {"__name__": "candidate"}
    exec(compile(source, "candidate.py", "exec"), namespace)
    with torch.no_grad():
        return namespace["merge_models"]({k: t.clone() for k, t in originals.items()}, torch.device("cpu"))


def _report(pid: int, told: int, seconds: float) -> dict[str, Any]:
    """Ends what is still running after so many seconds; daemons that left the family stay for the census."""
    until, ended = time.monotonic() + seconds, "stalls"
    while time.monotonic() < until:
        found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
        if found and not os.WIFSTOPPED(status):
            code = os.waitstatus_to_exitcode(status)
            ended = "fine" if code == 0 else f"code {code}"
            break
        time.sleep(0.005)
    else:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    written = b""
    if select.select([told], [], [], 0)[0]:
        written = os.read(told, 1 << 20)
    os.close(told)
    return {"ended": ended, **(json.loads(written) if written else {"carried": "", "lingers": False})}


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
