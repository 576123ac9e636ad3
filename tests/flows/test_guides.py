"""The guides' commands run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.flows.conftest import GUIDE, TINY, environment_of


def test_every_command_of_the_first_campaign_guide_works(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY, encoding="utf-8")
    script = "set -eu\n" + "\n".join(re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL))
    binaries = str(Path(sys.executable).parent)
    environment = environment_of(finished) | {"PATH": f"{binaries}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    made = {path.name for path in tmp_path.iterdir()}
    assert {"report.html", "winner", "merged", "campaign.yaml"} <= made
