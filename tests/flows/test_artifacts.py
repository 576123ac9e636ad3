"""What is shown in the Prefect UI, and when."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import artifacts
from flows.artifacts import ResultArtifacts
from selfdev_core import report
from tests.report.synthetic import campaign, unfinished


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Artifacts of a server that keeps the last of each key: (kind, description), in order."""
    kept: list[tuple[str, str]] = []

    def create(kind: str, place: int) -> Any:
        return lambda *given, **_: kept.append((kind, given[place]))

    def last(key: str, **_: object) -> Any:
        told = [description for kind, description in kept if kind == key.rpartition("-")[2]]
        return SimpleNamespace(description=told[-1]) if told else None

    monkeypatch.setattr(artifacts, "create_link_artifact", create("report", 3))
    monkeypatch.setattr(artifacts, "create_table_artifact", create("leaderboard", 2))
    monkeypatch.setattr(artifacts, "create_image_artifact", create("scores", 2))
    monkeypatch.setattr(artifacts.Artifact, "get", last)
    monkeypatch.setattr(artifacts, "save_result", lambda result: tmp_path / "report.html")
    monkeypatch.setattr(report, "plot_png", lambda result: b"")
    return kept


def test_the_report_is_linked_from_the_first_result_on_and_again_at_the_end(made: list[tuple[str, str]]) -> None:
    show = ResultArtifacts(lambda note: pytest.fail(note))
    for rounds in (1, 2):
        show(unfinished(rounds))
    ((kind, told),) = made
    assert kind == "report" and "report.html" in told and "after every round" in told
    show(campaign())
    assert [kind for kind, _ in made] == ["report", "leaderboard", "scores", "report"] and "finished" in made[-1][1]


def test_a_finished_campaign_is_drawn_again_only_when_its_end_was_never_shown(made: list[tuple[str, str]]) -> None:
    """The link of a campaign that was killed between its result and its artifacts is not the last one."""
    result = campaign()
    ResultArtifacts(lambda note: pytest.fail(note))(unfinished(1))
    ResultArtifacts(lambda note: pytest.fail(note), before=result)(result)
    assert [kind for kind, _ in made] == ["report", "leaderboard", "scores", "report"]
    ResultArtifacts(lambda note: pytest.fail(note), before=result)(result)
    assert len(made) == 4
