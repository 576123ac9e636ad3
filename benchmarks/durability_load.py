"""Small campaigns all at once on one store and one Prefect server with Postgres: each must end as it does alone.

Every campaign is a process of its own with a home of its own, as if it ran on a machine of its own. There are three
configurations, so most campaigns meet others that want the same results at the same moment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from benchmarks.loop import essence
from selfdev_core.result import CampaignResult
from tests.deployments.postgres import postgres

SELFDEV = [sys.executable, "-m", "flows.cli"]
SEEDS = (3, 4, 5)
TOGETHER_SECONDS = 3600.0
_SMALL = {
    "models": {"family": "arithmetic"},
    "questions": {"family": "arithmetic", "search": 8, "validation": 12, "test": 16},
    "factory": {"iterations": 2, "samples": 10, "batch_size": 10},
    "dpo": {"steps": 2, "batch_size": 2, "guard_samples": 4, "min_valid_share": 0.0},
    "finalists": {"count": 2},
    "controls": {"human": ["task_arithmetic"], "task_arithmetic": [0.6]},
    "resources": {"workers": 1},
}


def concurrent_campaigns(count: int) -> int:
    """How many of `count` campaigns that run at once end exactly as alone: programs, scores, winner, openings."""
    return sum(row["ok"] for row in run_together(count))


def run_together(count: int) -> list[dict[str, Any]]:
    """One row per campaign: seed, wall seconds, exit status, whether it equals its solo run."""
    with tempfile.TemporaryDirectory(prefix="selfdev-bench-") as folder, _server(Path(folder) / "server") as api:
        root = Path(folder)
        seeds = [SEEDS[number % len(SEEDS)] for number in range(count)]
        alone = {}
        for seed in sorted(set(seeds)):
            one = _Campaign(root / f"alone-{seed}", f"alone-{seed}", seed, root / f"store-{seed}")
            if one.start(api).wait() != 0:
                raise RuntimeError(f"{one.name} fails by itself:\n{one.output()}")
            alone[seed] = one.result()
        shared = root / "store"
        campaigns = [_Campaign(root / f"home-{n}", f"together-{n}", seed, shared) for n, seed in enumerate(seeds)]
        began = time.monotonic()
        waiting = {one: one.start(api) for one in campaigns}
        rows = []
        try:
            while waiting:
                if time.monotonic() - began > TOGETHER_SECONDS:
                    raise RuntimeError(f"{[one.name for one in waiting]} do not end in {TOGETHER_SECONDS:.0f} s")
                time.sleep(0.5)
                for one in [one for one, process in waiting.items() if process.poll() is not None]:
                    status = waiting.pop(one).returncode
                    rows.append(one.row(status, time.monotonic() - began, alone[one.seed]))
        finally:
            for process in waiting.values():
                process.kill()
                process.wait()
        return sorted(rows, key=lambda row: str(row["campaign"]))


class _Campaign(NamedTuple):
    home: Path
    name: str
    seed: int
    store: Path

    def start(self, api: str) -> subprocess.Popen[bytes]:
        self.home.mkdir()
        file = self.home / "campaign.yaml"
        file.write_text(yaml.safe_dump({"name": self.name, "seed": self.seed, "store": str(self.store)} | _SMALL))
        environment = _environment() | {"SELFDEV_HOME": str(self.home), "PREFECT_API_URL": api}
        with (self.home / "log.txt").open("wb") as log:
            return subprocess.Popen([*SELFDEV, "run", str(file)], env=environment, stdout=log, stderr=log)

    def output(self) -> str:
        return (self.home / "log.txt").read_text(errors="replace")[-3000:]

    def result(self) -> CampaignResult:
        path = self.home / "campaigns" / self.name / "result.json"
        return CampaignResult.model_validate_json(path.read_text(encoding="utf-8"))

    def row(self, status: int, seconds: float, alone: CampaignResult) -> dict[str, Any]:
        row: dict[str, Any] = {"campaign": self.name, "seed": self.seed, "seconds": round(seconds, 1), "status": status}
        if status != 0:
            return row | {"ok": False, "output": self.output()}
        mine = self.result()
        same = essence(mine) == essence(alone)
        return row | {"same": same, "openings": mine.test_openings, "ok": same and mine.test_openings == 1}


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}


@contextmanager
def _server(home: Path) -> Iterator[str]:
    """API address of a Prefect server of its own, on a Postgres of its own."""
    with postgres() as database:
        environment = _environment() | {
            "SELFDEV_HOME": str(home),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": database.url,
        }
        try:
            subprocess.run([*SELFDEV, "server", "start"], env=environment, check=True, capture_output=True)
            server = json.loads((home / "prefect" / "server.json").read_text())
            if "postgresql" not in server["database"]:
                raise RuntimeError(f"the server keeps its runs in {server['database']}")
            yield server["url"]
        finally:
            subprocess.run([*SELFDEV, "server", "stop"], env=environment, check=False, capture_output=True)


if __name__ == "__main__":
    print(json.dumps(run_together(int(sys.argv[1]) if len(sys.argv) > 1 else 10), indent=1))
