"""Installed from a wheel, the console command works from any folder and brings its data with it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

REPO = Path(__file__).parents[2]


def test_the_wheel_holds_everything_and_its_command_runs_elsewhere(tmp_path: Path) -> None:
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(tmp_path),
        str(REPO),
    ]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    assert {"deployments/campaigns/miniature.yaml", "selfdev_core/algorithm/prompts/paper.txt"} <= names
    for family in ("arithmetic", "transfer"):
        for member in ("seed", "alpha", "beta"):
            assert f"selfdev_core/miniature/weights/{family}/{member}/model.safetensors" in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site"), "SELFDEV_HOME": str(tmp_path / "home")}
    code = (
        "import selfdev_core, flows.cli; from selfdev_core.prepare import prepare; from selfdev_core.config import load_campaign;"
        "from importlib.resources import files; from pathlib import Path;"
        "print(selfdev_core.__file__);"
        "print(prepare(load_campaign(Path(str(files('deployments') / 'campaigns' / 'miniature.yaml')))).plan.models.scope)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert str(tmp_path / "site") in done.stdout
