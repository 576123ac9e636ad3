"""The sandbox of this project as the escape suite sees it."""

from __future__ import annotations

from selfdev_core.records import Level
from selfdev_core.sandbox.client import Run, Sandbox
from tests.security.census import Census
from tests.security.examine import HARMLESS, Setting
from tests.security.world import World

MEMORY_GB = 0.25


def setting_for(level: Level, world: World) -> tuple[Sandbox, Setting]:
    """A warm sandbox and what is needed to examine programs in it."""
    sandbox = Sandbox({"probes": world.bundle}, 20.0, MEMORY_GB, level=level)

    def run(source: str, seconds: float) -> Run:
        sandbox.seconds = seconds
        return sandbox.run(source, "probes")

    first = run(HARMLESS, 20.0)
    if first.reason != "accepted" or sandbox.level != level:
        raise AssertionError(f"no sandbox of level {level}: {sandbox.level}, {first.reason} {first.detail}")
    return sandbox, Setting(run, world, Census(), first.tensors)
