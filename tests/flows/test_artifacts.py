"""What the Prefect UI shows must not slow a campaign down when the server is away."""

from __future__ import annotations

import time
import uuid
from typing import NoReturn

import httpx
import pytest

from flows import artifacts
from selfdev_core.config import CampaignConfig
from selfdev_core.progress import Silent


def test_a_server_that_is_away_takes_a_tenth_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def away(*_: object, **__: object) -> NoReturn:
        tried.append(time.monotonic())
        time.sleep(0.1)
        raise httpx.ConnectError("away")

    monkeypatch.setattr(artifacts, "create_progress_artifact", lambda *_, **__: uuid.uuid4())
    monkeypatch.setattr(artifacts, "update_progress_artifact", away)
    monkeypatch.setattr(artifacts, "UPDATE_SECONDS", 0.0)
    config = CampaignConfig.model_validate(
        {"name": "mine", "models": {"family": "arithmetic"}, "questions": {"family": "arithmetic"}}
    )
    progress = artifacts.ProgressArtifact(Silent(), config)
    progress.stage("trained 1 · evaluate", 100)
    for _ in range(100):
        progress.advance()
    assert len(tried) == 1
    time.sleep(1.0)
    progress.advance()
    assert len(tried) == 2
