"""What the Prefect UI shows of a campaign beside its runs: how far it is, the leaderboard, a plot of the scores, the report.

Artifacts are an extra: a server that does not take one is noted and the campaign goes on.
"""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast
from uuid import UUID

import httpx
from prefect.artifacts import (
    Artifact,
    create_image_artifact,
    create_link_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import PrefectHTTPStatusError

from flows.extent import Extent
from flows.show import standings
from selfdev_core.assemble import save_result
from selfdev_core.config import CampaignConfig
from selfdev_core.progress import Progress
from selfdev_core.result import CampaignResult

UPDATE_SECONDS = 5.0  # between two updates of the progress
SHOW_SECONDS = 20.0  # between two leaderboards and plots, which take a quarter of a second to draw
ROWS = 20


def key_of(campaign: str, what: str) -> str:
    """An artifact's key: campaign names are lower-case letters, digits and dashes, as keys must be."""
    return f"{campaign}-{what}"


class ProgressArtifact:
    """Passes what it is told to another `Progress` and keeps a progress artifact. Made inside a flow run."""

    def __init__(self, inner: Progress, config: CampaignConfig) -> None:
        self._inner, self._extent = inner, Extent(config)
        self._lock, self._told, self._best = threading.Lock(), 0.0, 0.0
        self._artifact: UUID | None = None
        self._try(self._create, config.name)

    def stage(self, name: str, total: int) -> None:
        self._inner.stage(name, total)
        with self._lock:
            self._extent.begin(name, total)
        self._tell()

    def advance(self, items: int = 1) -> None:
        self._inner.advance(items)
        with self._lock:
            self._extent.advance(items)
        self._tell()

    def best(self, score: float) -> None:
        self._inner.best(score)
        with self._lock:
            self._best = max(self._best, score)

    def note(self, text: str) -> None:
        self._inner.note(text)

    def finish(self) -> None:
        """The campaign is done."""
        if self._artifact is not None:
            self._try(self._update, 100.0, "finished")

    def _create(self, campaign: str) -> None:
        made = create_progress_artifact(0.0, key_of(campaign, "progress"), "starting", _sync=True)  # type: ignore[call-arg]
        self._artifact = cast(UUID, made)

    def _tell(self) -> None:
        with self._lock:
            if self._artifact is None or time.monotonic() - self._told < UPDATE_SECONDS:
                return
            self._told = time.monotonic()
            share, words = self._extent.share, f"{self._extent.words}, best search score {self._best:.1%}"
        began = time.monotonic()
        self._try(self._update, 100.0 * share, words)
        with self._lock:  # a server that is away takes a minute to be given up: no more than a tenth of the time for it
            self._told = time.monotonic() + 9 * (time.monotonic() - began)

    def _update(self, percent: float, words: str) -> None:
        assert self._artifact is not None
        update_progress_artifact(self._artifact, percent, words, _sync=True)  # type: ignore[call-arg]

    def _try(self, action: Callable[..., None], *arguments: object) -> None:
        _attempt(action, *arguments, tell=self._inner.note)


class ResultArtifacts:
    """Writes result and report as ever, and shows in the Prefect UI where the report lies, from the first result on, and the
    leaderboard and the plot of the scores: now and then while the campaign goes on, and always at its end."""

    def __init__(self, tell: Callable[[str], None], before: CampaignResult | None = None) -> None:
        """`before`: what an earlier run left; when it comes again and the server shows it, it is not drawn again."""
        self._tell, self._shown, self._before = tell, time.monotonic(), before
        self._linked = False

    def __call__(self, result: CampaignResult) -> None:
        report = save_result(result)
        if result == self._before and _is_shown(result, report):
            return
        if result.finished or time.monotonic() - self._shown >= SHOW_SECONDS:
            _attempt(_publish, result, tell=self._tell)
            self._shown = time.monotonic()
        if result.finished or not self._linked:  # at the end the last of all: `_is_shown` looks for it
            _attempt(_link, result, report, tell=self._tell)
            self._linked = True


def _is_shown(result: CampaignResult, report: Path) -> bool:
    """Whether this server has the last artifact of this result."""
    try:
        found = cast("Artifact | None", Artifact.get(key_of(result.name, "report"), _sync=True))  # type: ignore[call-arg]
        return found is not None and found.description == _whereabouts(result, report)
    except (PrefectHTTPStatusError, OSError, httpx.HTTPError):
        return False


def _publish(result: CampaignResult) -> None:
    from selfdev_core.report import plot_png

    state = "finished" if result.finished else f"after {len(result.iterations)} rounds"
    create_table_artifact(leaderboard(result), key_of(result.name, "leaderboard"), f"Leaderboard, {state}", _sync=True)  # type: ignore[call-arg]
    picture = base64.b64encode(plot_png(result)).decode()
    create_image_artifact(
        f"data:image/png;base64,{picture}",
        key_of(result.name, "scores"),
        f"Search scores per iteration, {state}",
        _sync=True,  # type: ignore[call-arg]
    )


def _link(result: CampaignResult, report: Path) -> None:
    create_link_artifact(
        report.resolve().as_uri(),
        "report.html",
        key_of(result.name, "report"),
        _whereabouts(result, report),
        _sync=True,  # type: ignore[call-arg]
    )


def _whereabouts(result: CampaignResult, report: Path) -> str:
    """Where the report lies, and whether it is whole."""
    state = "Of the finished campaign." if result.finished else "Written anew after every round."
    return (
        f"{state} On {socket.gethostname()}: `{report.resolve()}`, or `selfdev report {result.name}` there. "
        "Browsers do not open files from a web page: copy the address."
    )


def leaderboard(result: CampaignResult) -> list[dict[str, object]]:
    """Rows of the table artifact, best first."""
    return [
        {
            "winner": row.mark,
            "program or model": row.label,
            "search": row.search,
            "validation": row.validation,
            "test": row.test,
        }
        for row in standings(result)[:ROWS]
    ]


def _attempt(action: Callable[..., None], *arguments: object, tell: Callable[[str], None]) -> None:
    try:
        action(*arguments)
    except (PrefectHTTPStatusError, OSError, httpx.HTTPError) as error:
        tell(f"the Prefect server did not take an artifact ({error}); the campaign goes on")
