"""Task: programs are checked and run on probes in the sandbox (`selfdev_core.stages.validate`)."""

from __future__ import annotations

from selfdev_core.stages.executor import VALIDATE
from tasks.caching import stage_task

validate = stage_task(VALIDATE)
