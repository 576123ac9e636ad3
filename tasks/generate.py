"""Task: the factory writes programs (`selfdev_core.stages.generate`)."""

from __future__ import annotations

from selfdev_core.stages.executor import GENERATE
from tasks.caching import stage_task

generate = stage_task(GENERATE)
