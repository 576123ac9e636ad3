"""A home and a store of its own for every test."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfdev_core.store.artifacts import ArtifactStore


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SELFDEV_HOME of the test."""
    monkeypatch.setenv("SELFDEV_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")
