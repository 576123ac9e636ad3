"""mergekit in an environment of its own (its licence is LGPL, and its pins are not ours): made once beside the repository's
own, used as a program only.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

VERSION = "0.1.5"
_PACKAGES = (f"mergekit=={VERSION}", "torch~=2.13.0")
_DEFAULT = Path(__file__).parents[2] / ".venv-mergekit"


def mergekit_python() -> Path:
    """Its interpreter: that of SELFDEV_MERGEKIT, or of `.venv-mergekit`, which is made when it is not there."""
    if named := os.environ.get("SELFDEV_MERGEKIT"):
        return Path(named)
    python, done = _DEFAULT / "bin" / "python", _DEFAULT / ".installed"
    _DEFAULT.mkdir(exist_ok=True)
    with (_DEFAULT / ".lock").open("w") as lock:  # test processes that come at the same moment wait for the first
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.is_file() or done.read_text() != " ".join(_PACKAGES):
            subprocess.run([sys.executable, "-m", "venv", str(_DEFAULT)], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *_PACKAGES], check=True)
            done.write_text(" ".join(_PACKAGES))
    return python


def mergekit(*command: str | Path) -> None:
    """Run `python …` in mergekit's environment. Fails the test with what it said."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SELFDEV_HOME")}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(mergekit_python()), *map(str, command)], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
