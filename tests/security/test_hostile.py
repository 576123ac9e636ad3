"""Every hostile program at every level that claims to contain it: nothing happens outside, and the verdict is right."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from selfdev_core.algorithm.contract import check_source
from selfdev_core.records import Level
from selfdev_core.sandbox.client import Sandbox
from tests.security.examine import Setting, examine
from tests.security.hostile import CATEGORIES, HOSTILE
from tests.security.levels import LEVELS, claimed

Jail = Callable[[Level], tuple[Sandbox, Setting]]
# The strongest level is tried in the fast tests, the others in the slow ones.
CASES = [
    pytest.param(level, one.name, marks=[pytest.mark.slow] if level != LEVELS[0] else [])
    for level in LEVELS
    for one in claimed(level)
]


@pytest.mark.parametrize(("level", "name"), CASES)
def test_contained(level: Level, name: str, jail: Jail) -> None:
    _, setting = jail(level)
    found = examine(HOSTILE[name], setting)
    assert not found, found


def test_there_are_many_programs_and_no_two_of_one_name() -> None:
    assert len(HOSTILE) == sum(map(len, CATEGORIES.values())) >= 60


def test_the_check_of_the_text_sees_nothing_in_most_of_them() -> None:
    """Otherwise a program would say nothing of the sandbox: real attackers know the check too."""
    seen = {name for name, one in HOSTILE.items() if check_source(one.source.replace("@T@", "{}")) is not None}
    assert seen == {name for name, one in HOSTILE.items() if not one.passes_check}
    assert len(seen) < 30
