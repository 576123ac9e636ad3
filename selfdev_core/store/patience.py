"""Trying again while trouble may pass: a throttled, slow, restarting or briefly unreachable store."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

FIRST_WAIT, LONGEST_WAIT = 0.2, 10.0  # seconds
READS = 4  # times that an object is read before it is called damaged: a bad transfer is not a bad object


def patiently(work: Callable[[], T], passing: Callable[[Exception], bool], seconds: float) -> T:
    """Do `work`; while it raises what `passing` says may pass, wait and do it again, for at most `seconds`.

    Waits double from 0.2 s to 10 s, each between half and whole, so that many processes do not come back at once.
    Raises what `work` raised last.
    """
    deadline, wait = time.monotonic() + seconds, FIRST_WAIT
    while True:
        try:
            return work()
        except Exception as error:
            pause = wait * random.uniform(0.5, 1.0)
            if not passing(error) or time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        wait = min(2 * wait, LONGEST_WAIT)
