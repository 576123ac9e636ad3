"""A real campaign on the shipped family, small enough for tests, through the real command line and a real server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

GUIDE = (Path(__file__).parents[2] / "docs" / "first-campaign.md").read_text(encoding="utf-8")
TINY = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)[0]

Selfdev = Callable[..., subprocess.CompletedProcess[str]]


def environment_of(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return kept | {"SELFDEV_HOME": str(home), "COLUMNS": "200"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "flows.cli", *arguments]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A selfdev home with a server of its own, stopped at the end."""
    folder = tmp_path_factory.mktemp("home")
    yield folder
    subprocess.run(command("server", "stop"), env=environment_of(folder), check=True, capture_output=True)


@pytest.fixture(scope="session")
def selfdev(home: Path) -> Selfdev:
    """Runs `selfdev …` as a user would; fails the test with its output when the status is not the expected one."""

    def call(
        *arguments: str, status: int = 0, cwd: Path | None = None, timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command(*arguments), env=environment_of(home), cwd=cwd, capture_output=True, text=True, timeout=timeout
        )
        assert done.returncode == status, f"{arguments} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return call


@pytest.fixture(scope="session")
def campaign_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("campaign") / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def finished(selfdev: Selfdev, campaign_file: Path, home: Path) -> Path:
    """The tiny campaign, run once to its end; returns the home."""
    selfdev("run", str(campaign_file))
    return home


@pytest.fixture
def alone(selfdev: Selfdev, finished: Path) -> Path:
    """The home with nothing in its store but what the tiny campaign needs: tests before this one leave campaigns there too."""
    references = (finished / "store" / "records" / "references").rglob("*.json")
    others = {json.loads(path.read_text())["body"]["campaign"] for path in references} - {"tiny"}
    selfdev("gc", "--days", "0", "--yes", *(word for name in sorted(others) for word in ("--forget", name)))
    return finished
