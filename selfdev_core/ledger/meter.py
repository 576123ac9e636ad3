"""What a piece of work really took: its own seconds, and for how long it held a worker.

A unit's own seconds leave out waiting for a free worker and the units made inside it (training samples and validates
programs of its own), so that nothing is counted twice. Meters nest per thread.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import Self


class Meter:
    """Of one unit of work, entered once: seconds `waited` for a worker, seconds it `occupied` one."""

    def __init__(self) -> None:
        self.waited = self.occupied = 0.0
        self._nested = self._total = 0.0

    def __enter__(self) -> Self:
        self._outer = _current.get()
        self._token = _current.set(self)
        self._began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self._total = time.monotonic() - self._began
        _current.reset(self._token)
        if self._outer is not None:
            self._outer._nested += self._total

    @property
    def seconds(self) -> float:
        """Own seconds, once the work is over."""
        return max(0.0, self._total - self.waited - self._nested)


_current: ContextVar[Meter | None] = ContextVar("meter", default=None)


def held_a_worker(waited: float, occupied: float) -> None:
    """Tell the work that is being metered in this thread how long it waited for a worker and how long it held it."""
    meter = _current.get()
    if meter is not None:
        meter.waited += waited
        meter.occupied += occupied
