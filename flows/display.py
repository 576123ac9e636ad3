"""What a person sees in the terminal while a campaign runs: stage, counts, best score, time left."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from flows.extent import Extent
from flows.status import StatusFile
from selfdev_core.config import CampaignConfig


class LiveProgress:
    """Draws one line for the campaign and keeps `status.json` for `selfdev status`."""

    def __init__(self, config: CampaignConfig, status_file: Path, console: Console) -> None:
        self._extent, self._status, self._console = Extent(config), StatusFile(status_file), console
        self._lock = threading.Lock()
        self._best = 0.0
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=console,
        )
        self._campaign = self._bars.add_task(f"[bold]{config.name}", total=1.0, text="")

    def __enter__(self) -> Self:
        self._bars.start()
        self._status.write("running", self._extent, self._best, force=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is None:
            self._bars.update(self._campaign, completed=1.0, text=f"best {self._best:.1%}")
        self._bars.stop()
        self._status.write("finished" if kind is None else "stopped", self._extent, self._best, force=True)

    def stage(self, name: str, total: int) -> None:
        with self._lock:
            self._extent.begin(name, total)
            self._draw(force=True)

    def advance(self, items: int = 1) -> None:
        with self._lock:
            self._extent.advance(items)
            self._draw()

    def best(self, score: float) -> None:
        with self._lock:
            self._best = max(self._best, score)

    def note(self, text: str) -> None:
        self._console.print(f"[yellow]note[/yellow] {escape(text)}", highlight=False)

    def _draw(self, force: bool = False) -> None:
        text = f"{self._extent.words}  best {self._best:.1%}"
        self._bars.update(self._campaign, completed=self._extent.share, text=text)
        self._status.write("running", self._extent, self._best, force)
