"""One world outside and one sandbox per level for the whole folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from selfdev_core.records import Level
from selfdev_core.sandbox.client import Sandbox
from tests.security.census import orphans_come_to_us
from tests.security.examine import Setting
from tests.security.jails import setting_for
from tests.security.world import World


@pytest.fixture(scope="package")
def world() -> Iterator[World]:
    with orphans_come_to_us():
        one = World()
        os.environ["SELFDEV_CANARY"] = one.secret
        yield one
        del os.environ["SELFDEV_CANARY"]
        one.close()


@pytest.fixture(scope="package")
def jail(world: World) -> Iterator[Callable[[Level], tuple[Sandbox, Setting]]]:
    """The sandbox of a level, warm, and the setting to examine programs in it. One level is warm at a time."""
    warm: dict[Level, tuple[Sandbox, Setting]] = {}

    def of(level: Level) -> tuple[Sandbox, Setting]:
        if level not in warm:
            for sandbox, _ in warm.values():
                sandbox.close()
            warm.clear()
            warm[level] = setting_for(level, world)
        return warm[level]

    yield of
    for sandbox, _ in warm.values():
        sandbox.close()
