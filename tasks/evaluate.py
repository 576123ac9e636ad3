"""Task: merged models answer questions (`selfdev_core.stages.evaluate`)."""

from __future__ import annotations

from selfdev_core.stages.executor import EVALUATE
from tasks.caching import stage_task

evaluate = stage_task(EVALUATE)
