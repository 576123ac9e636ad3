"""What root has tried is tried again as an ordinary user. (An ordinary user's own run of the suite is that already.)"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.security.world import REPOSITORY

SOME = "reads or talks or daemon or listener or contained and (passwd or writes or forges or NaN or sleeps)"


@pytest.mark.skipif(os.geteuid() != 0, reason="this run is an ordinary user's")
@pytest.mark.parametrize(
    "chosen", [["-m", "not slow", "-k", SOME], pytest.param(["-m", "not slow"], marks=pytest.mark.slow)]
)
def test_the_suite_holds_for_an_ordinary_user(chosen: list[str]) -> None:
    tests = ["-m", "pytest", "-p", "no:cacheprovider", "tests/security", *chosen]
    run = subprocess.run(
        [sys.executable, "-m", "tests.security.nobody", *tests], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert " passed" in run.stdout
