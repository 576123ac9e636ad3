"""Retry of a crashed deployment run, as a person does it in the Prefect UI: a real server, a real worker, kill -9.

    python -m benchmarks.retry    three deaths of the machine (worker, run and all their processes); prints each

`measure_retry` is also what the durability benchmark calls for its figure `retry_seconds`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import httpx
import psutil
import yaml

SELFDEV = [sys.executable, "-m", "flows.cli"]
CAMPAIGN = """\
name: {name}
seed: 3
models: {{family: arithmetic}}
questions: {{family: arithmetic, search: 16, validation: 24, test: 32}}
factory: {{iterations: 2, samples: 16, batch_size: 16}}
dpo: {{steps: 4, batch_size: 4, guard_samples: 8, min_valid_share: 0.0}}
finalists: {{count: 2}}
controls: {{human: [task_arithmetic, ties, dare], task_arithmetic: [0.6], ties: [[0.4, 1.0]], dare: [[0.6, 0.6]]}}
resources: {{chunk_size: 6}}
"""
SECOND_LOOK = (
    10.0  # seconds after which Prefect's worker has looked at a dead run again, which would undo an earlier click
)
# What the button sends: the UI that Prefect shows by default, and its successor (PREFECT_SERVER_UI_V2_ENABLED).
BUTTON = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}, "force": False}
BUTTON_V2 = BUTTON | {"force": True}


class Retried(NamedTuple):
    """Seconds from the kill to the state Crashed, from there (Retry is clicked at once) to the first task that comes from the
    cache, and from the kill to the end; how many task runs were Cached in the second attempt; how many scorecards were there
    at the kill, and how many of these were written again."""

    noticed_seconds: float
    retry_seconds: float
    total_seconds: float
    cached: int
    kept: int
    repeated: int


def ask(method: str, url: str, body: dict[str, Any] | None = None) -> Any:
    """What a Prefect server answers. One that waits for its database's lock says 503 and is asked again, as Prefect's client
    does."""
    for _ in range(10):
        answer = httpx.request(method, url, json=body, timeout=30)
        if answer.status_code != 503:
            break
        time.sleep(2)
    answer.raise_for_status()
    return answer.json() if answer.content else None


class Site:
    """A selfdev home with its own server, through which deployed campaigns are started, killed and watched."""

    def __init__(self, home: Path) -> None:
        self.home = home
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        self.environment = kept | {"SELFDEV_HOME": str(home), "COLUMNS": "200", "PREFECT_WORKER_QUERY_SECONDS": "2"}

    def selfdev(self, *arguments: str, status: int = 0) -> str:
        """Output of `selfdev …`. Raises RuntimeError with it when the status is not the expected one."""
        done = subprocess.run([*SELFDEV, *arguments], env=self.environment, capture_output=True, text=True, timeout=600)
        if done.returncode != status:
            raise RuntimeError(f"selfdev {arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done.stdout + done.stderr

    def campaign(self, name: str) -> Path:
        """A campaign file for the tiny campaign, with a store of its own beside it."""
        path = self.home / "files" / name / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(yaml.safe_load(CAMPAIGN.format(name=name)) | {"store": "store"}))
        return path

    def scorecards(self, name: str) -> dict[Path, int]:
        """Stored scorecards of a campaign and when each was written (ns)."""
        root = self.home / "files" / name / "store" / "records" / "scorecards"
        return {path: path.stat().st_mtime_ns for path in root.rglob("*.json")}

    @property
    def url(self) -> str:
        return str(json.loads((self.home / "prefect" / "server.json").read_text())["url"])

    def post(self, path: str, **body: Any) -> Any:
        return ask("POST", f"{self.url}{path}", body)

    def get(self, path: str) -> Any:
        return ask("GET", f"{self.url}{path}")

    def patch(self, path: str, **change: Any) -> None:
        ask("PATCH", f"{self.url}{path}", change)

    def start(self, campaign: str, **body: Any) -> str:
        """Start a run of a deployed campaign; returns its id."""
        deployment = self.get(f"/deployments/name/campaign/{campaign}")["id"]
        return str(self.post(f"/deployments/{deployment}/create_flow_run", **body)["id"])

    def state(self, run: str) -> str:
        return str(self.get(f"/flow_runs/{run}")["state"]["name"])

    def cached_since(self, when: str) -> int:
        """Task runs that came from the cache since a moment (ISO 8601)."""
        wanted = {"state": {"name": {"any_": ["Cached"]}}, "start_time": {"after_": when}}
        return len(self.post("/task_runs/filter", task_runs=wanted, limit=200))

    def worker(self) -> subprocess.Popen[bytes]:
        """`selfdev worker` in a session of its own; its output goes to worker.log in the home."""
        with (self.home / "worker.log").open("ab") as log:
            return subprocess.Popen(
                [*SELFDEV, "worker"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )


@contextmanager
def site(home: Path) -> Iterator[Site]:
    """A site whose server is stopped at the end."""
    made = Site(home)
    try:
        made.selfdev("server", "start")
        yield made
    finally:
        made.selfdev("server", "stop")


@contextmanager
def working(at: Site) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that is killed at the end, with its runs."""
    process = at.worker()
    try:
        yield process
    finally:
        kill_tree(process.pid)
        process.wait()


def kill_tree(pid: int) -> None:
    """SIGKILL to a process and all its descendants, as when their machine dies."""
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.kill()


def engine_of(worker: subprocess.Popen[bytes]) -> psutil.Process | None:
    """The process of a worker's flow run, if it has one."""
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(worker.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if "prefect.flow_engine" in process.cmdline() or "prefect.engine" in process.cmdline():
                    return process
    return None


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Wait for something; returns it. Raises TimeoutError saying what did not come."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {seconds:.0f} s")
        time.sleep(0.25)
    return found


def measure_retry(at: Site, name: str, victim: Literal["machine", "run"] = "machine", button: Any = BUTTON) -> Retried:
    """Start a deployed campaign, kill it in the middle of an evaluation, retry it like the UI, wait for its end.

    `machine`: worker and run die together, the automation has to notice. `run`: the worker lives and notices.
    Raises TimeoutError, RuntimeError.
    """
    at.selfdev("deploy", str(at.campaign(name)))
    with working(at) as first:
        run = at.start(name)
        until(lambda: len(at.scorecards(name)) >= 3, 600, "the first scorecards")
        engine = engine_of(first)
        if engine is None:
            raise RuntimeError("the worker has no flow run process")
        kill_tree(first.pid if victim == "machine" else engine.pid)
        killed, kept = time.monotonic(), at.scorecards(name)
        with working(at) if victim == "machine" else _nothing():
            until(lambda: at.state(run) == "Crashed", 180, "the state Crashed")
            if victim == "run":
                time.sleep(SECOND_LOOK)
            noticed, clicked = time.monotonic(), _now()
            at.post(f"/flow_runs/{run}/set_state", **button)
            until(lambda: at.cached_since(clicked), 300, "a task run from the cache")
            fetching = time.monotonic()
            until(lambda: at.state(run) in ("Completed", "Failed", "Crashed", "Cancelled"), 600, "the end")
            ended, state = time.monotonic(), at.state(run)
    if state != "Completed":
        raise RuntimeError(f"the retried run ended {state}")
    after = at.scorecards(name)
    repeated = sum(after[path] != when for path, when in kept.items())
    return Retried(noticed - killed, fetching - noticed, ended - killed, at.cached_since(clicked), len(kept), repeated)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _now() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="selfdev-retry-") as folder, site(Path(folder)) as at:
        for number in range(3):
            print(measure_retry(at, f"retried-{number}"), flush=True)


if __name__ == "__main__":
    main()
