"""Somebody kills a running program or its worker from outside: the program runs again and gets the verdict it deserves."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

import pytest

from selfdev_core.sandbox.client import Sandbox
from tests.durability.processes import kill_program, kill_sandbox

SLOW = "import time\ndef merge_models(model_dict, device):\n    time.sleep(0.3)\n    return sum(model_dict.values())\n"


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
@pytest.mark.parametrize("kill", [kill_program, kill_sandbox])
@pytest.mark.usefixtures("healthy")
def test_a_kill_from_outside_is_no_verdict(kill: Callable[[int], bool], sandbox: Sandbox) -> None:
    killed: list[bool] = []
    timer = threading.Timer(0.4, lambda: killed.append(kill(os.getpid())))
    timer.start()
    run = sandbox.run(SLOW, "probes")  # four parameters, more than a second
    timer.join()
    assert killed == [True]
    assert run.reason == "accepted", run
