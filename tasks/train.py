"""Task: DPO trains the factory (`selfdev_core.stages.train`)."""

from __future__ import annotations

from selfdev_core.stages.executor import TRAIN
from tasks.caching import stage_task

train = stage_task(TRAIN)
