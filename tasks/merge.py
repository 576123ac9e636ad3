"""Task: programs are run on the real task vectors (`selfdev_core.stages.merge`)."""

from __future__ import annotations

from selfdev_core.stages.executor import MERGE
from tasks.caching import stage_task

merge = stage_task(MERGE)
