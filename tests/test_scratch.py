"""Scratch folders: gone with their process, also when it is killed; never taken from one that lives."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from selfdev_core.scratch import Scratch

_HOLD = """
import sys
from pathlib import Path
from selfdev_core.scratch import Scratch
print(Scratch(*map(Path, sys.argv[1:])).path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.mark.parametrize(
    ("beside", "foreign"),
    [((), "selfdev-scratch-notes.txt"), (("out",), ".out.partial-notes.txt")],
    ids=["TMPDIR", "out"],
)
def test_a_killed_process_leaves_nothing_for_long(temporary: Path, beside: tuple[str, ...], foreign: str) -> None:
    out = [temporary / name for name in beside]
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, *map(str, out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert holder.stdout is not None
    theirs = Path(holder.stdout.readline().strip())
    (theirs / "weights").write_bytes(b"x")
    other = temporary / foreign
    other.write_text("a file is no scratch folder")
    ours = Scratch(*out)
    assert theirs.is_dir() and ours.path.is_dir()
    holder.kill()
    holder.communicate()
    next_one = Scratch(*out)
    assert not theirs.exists() and ours.path.is_dir() and next_one.path.is_dir() and other.is_file()
    for one in (ours, next_one):
        one.close()
        one.close()
    assert list(temporary.iterdir()) == [other]
