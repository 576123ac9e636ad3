"""Keeps a campaign's `status.json`, which `selfdev status` reads, whoever runs the campaign."""

from __future__ import annotations

import json
import time
from pathlib import Path

from flows.extent import Extent
from selfdev_core.home import replace_text

_PAUSE = 0.5  # seconds between two writes


class StatusFile:
    """Not thread-safe: its owner locks."""

    def __init__(self, path: Path) -> None:
        self._path, self._written = path, 0.0

    def write(self, state: str, extent: Extent, best: float, force: bool = False) -> None:
        """Write how far the campaign is; at most twice a second, unless forced."""
        if not force and time.monotonic() - self._written < _PAUSE:
            return
        self._written = time.monotonic()
        status = {
            "state": state,
            "stage": extent.stage,
            "done": extent.done,
            "total": extent.total,
            "best": best,
            "updated": time.time(),
        }
        replace_text(self._path, json.dumps(status))
