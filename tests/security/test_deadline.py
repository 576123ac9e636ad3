"""At the deadline a program ends with all that it started, whatever it does against it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import pytest

from selfdev_core.records import Level
from selfdev_core.sandbox.client import Sandbox
from tests.security.examine import LATE, Setting
from tests.security.hostile.trees import STALLERS, TREES
from tests.security.levels import LEVELS

DEADLINE = 0.25


@pytest.mark.parametrize(
    ("level", "runs"),
    [(LEVELS[0], len(TREES) + 5), *(pytest.param(level, 200, marks=pytest.mark.slow) for level in LEVELS)],
)
def test_the_whole_tree_is_gone_within_half_a_second(
    level: Level, runs: int, jail: Callable[[Level], tuple[Sandbox, Setting]]
) -> None:
    _, setting = jail(level)
    late = []
    for _, (name, source) in zip(range(runs), itertools.cycle(STALLERS.items()), strict=False):
        began = time.monotonic()
        reason = setting.run(setting.world.source(source), DEADLINE).reason
        left = setting.census.strangers(patience=began + DEADLINE + LATE - time.monotonic())
        took = time.monotonic() - began
        if left or took > DEADLINE + LATE or reason != "time-limit":
            late.append((name, reason, took, left))
    assert not late, late
    assert setting.world.harms() == []
