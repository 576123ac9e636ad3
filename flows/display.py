"""What a person sees in the terminal while a campaign runs: stage, counts, best score, time left."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from selfdev_core.config import CampaignConfig

# Share of an iteration's time that each stage is expected to take; only the estimate of the time left depends on it.
_WEIGHTS = {"generate": 0.06, "validate": 0.10, "merge": 0.06, "evaluate": 0.53, "pairs": 0.0, "dpo": 0.25}
_FINALISTS = 0.6  # the finalists step, in iterations


class LiveProgress:
    """Draws two lines (campaign and stage) and keeps `status.json` for `selfdev status`."""

    def __init__(self, config: CampaignConfig, status_file: Path, console: Console) -> None:
        self._rounds = config.factory.iterations * (2 if config.controls.untrained else 1)
        self._arms = 2 if config.controls.untrained else 1
        self._status_file, self._console = status_file, console
        self._lock = threading.Lock()
        self._best, self._stage, self._done, self._total = 0.0, "starting", 0, 0
        self._base, self._share, self._written = 0.0, 0.0, 0.0
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
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        state = "finished" if kind is None else "stopped"
        if kind is None:
            self._bars.update(self._campaign, completed=1.0, text=f"best {self._best:.1%}")
        self._bars.stop()
        self._write(state, force=True)

    def stage(self, name: str, total: int) -> None:
        with self._lock:
            self._stage, self._done, self._total = name, 0, total
            self._base, self._share = self._place(name)
            self._draw()

    def advance(self, items: int = 1) -> None:
        with self._lock:
            self._done += items
            self._draw()

    def best(self, score: float) -> None:
        with self._lock:
            self._best = max(self._best, score)

    def note(self, text: str) -> None:
        self._console.print(f"[yellow]note[/yellow] {escape(text)}", highlight=False)

    def _place(self, name: str) -> tuple[float, float]:
        """(share of the campaign done when this stage begins, share that it takes)."""
        whole = self._rounds + _FINALISTS
        who, _, stage = name.partition(" · ")
        if who == "finalists" or not stage:
            return (self._rounds / whole, _FINALISTS / 3 / whole)
        arm, _, number = who.partition(" ")
        done = (int(number) - 1) * self._arms + (arm == "untrained")
        stages = list(_WEIGHTS)
        before = sum(_WEIGHTS[s] for s in stages[: stages.index(stage)])
        return (min(done + before, self._rounds) / whole, _WEIGHTS[stage] / whole)

    def _draw(self) -> None:
        part = min(1.0, self._done / self._total) if self._total else 0.0
        counts = f" {min(self._done, self._total)}/{self._total}" if self._total else ""
        text = f"{self._stage}{counts}  best {self._best:.1%}"
        completed = max(self._base + part * self._share, self._bars.tasks[0].completed)
        self._bars.update(self._campaign, completed=completed, text=text)
        self._write("running")

    def _write(self, state: str, force: bool = False) -> None:
        if not force and time.monotonic() - self._written < 0.5:
            return
        self._written = time.monotonic()
        status = {
            "state": state,
            "stage": self._stage,
            "done": self._done,
            "total": self._total,
            "best": self._best,
            "updated": time.time(),
        }
        self._status_file.parent.mkdir(parents=True, exist_ok=True)
        self._status_file.write_text(json.dumps(status), encoding="utf-8")
