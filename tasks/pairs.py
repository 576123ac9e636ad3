"""Task: scores become preference pairs (`selfdev_core.stages.pairs`)."""

from __future__ import annotations

from selfdev_core.stages.executor import PAIRS
from tasks.caching import stage_task

pairs = stage_task(PAIRS)
