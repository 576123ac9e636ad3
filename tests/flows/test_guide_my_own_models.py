"""The guide "my own models" on the miniature: its commands as they stand, its campaign file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from selfdev_core.config import load_campaign
from tests.flows.conftest import environment_of

GUIDE = (Path(__file__).parents[2] / "docs" / "my-own-models.md").read_text(encoding="utf-8")
HUB, OWN = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)


def test_its_models_are_folders_or_repositories(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("name: hub\nquestions: {family: arithmetic}\n" + HUB, encoding="utf-8")
    models = load_campaign(tmp_path / "c.yaml").models
    assert models.seed == "openchat/openchat-3.5-1210@main"
    assert models.experts == {"abel": "GAIR/Abel-7B-002", "mine": str(tmp_path / "models/my-expert")}


@pytest.mark.slow
def test_every_command_works(home: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(OWN, encoding="utf-8")
    script = "set -eu\n" + "\n".join(re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL))
    environment = environment_of(home) | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"merged", "best", "half.py"} <= {path.name for path in tmp_path.iterdir()}
    assert "0.5 * sum" in (tmp_path / "merged" / "README.md").read_text()
