"""A factory from the store is the one its name says, or it is reported and made again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from selfdev_core.errors import CheckpointError
from selfdev_core.progress import Silent
from selfdev_core.store.artifacts import CHECKPOINTS
from selfdev_core.store.checkpoints import CheckpointManifest
from selfdev_core.workspace import Workspace, WorkspaceSettings


class Told(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def open_workspace(tmp_path: Path) -> Iterator[Callable[[], Workspace]]:
    opened = []

    def make() -> Workspace:
        workspace = Workspace(WorkspaceSettings(store=str(tmp_path / "store"), models={}, workers=1))
        workspace.progress = Told()
        opened.append(workspace)
        return workspace

    yield make
    for workspace in opened:
        workspace.close()


def _notes(workspace: Workspace) -> list[str]:
    assert isinstance(workspace.progress, Told)
    return workspace.progress.notes


def test_a_kept_checkpoint_is_held_in_every_process(open_workspace: Callable[[], Workspace], pico: Any) -> None:
    sha256 = open_workspace().keep_checkpoint(pico.seed)
    other = open_workspace()
    assert other.holds(sha256) and _notes(other) == []
    assert (other.folder(sha256) / "model.safetensors").read_bytes() == (pico.seed / "model.safetensors").read_bytes()


def test_another_models_manifest_in_its_place_is_found(open_workspace: Callable[[], Workspace], pico: Any) -> None:
    """Well formed, with a right digest, every blob sound: the identity of the model tells."""
    first = open_workspace()
    seed, alpha = first.keep_checkpoint(pico.seed), first.keep_checkpoint(pico.experts["alpha"])
    manifest = first.store.read(CHECKPOINTS, alpha, CheckpointManifest)
    assert manifest is not None
    first.store.write(CHECKPOINTS, seed, manifest)
    other = open_workspace()
    with pytest.raises(CheckpointError, match="run the campaign again"):
        other.folder(seed)
    assert "is damaged (another checkpoint's content); it is made again" in _notes(other)[0]
    assert not other.holds(seed) and other.holds(alpha)


def test_a_damaged_checkpoint_is_dropped(open_workspace: Callable[[], Workspace], pico: Any, tmp_path: Path) -> None:
    sha256 = open_workspace().keep_checkpoint(pico.seed)
    blob = max((tmp_path / "store" / "blobs").rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(blob.read_bytes())
    content[-9] ^= 1
    blob.write_bytes(content)
    at_once = open_workspace()
    assert at_once.keep_checkpoint(pico.seed) == sha256 and at_once.holds(sha256) and len(_notes(at_once)) == 1
    blob.write_bytes(content)
    other = open_workspace()
    assert not other.holds(sha256) and "does not match its digest" in _notes(other)[0] and not blob.exists()
    again = shutil.copytree(pico.seed, tmp_path / "made-again")
    assert other.keep_checkpoint(again) == sha256 and other.holds(sha256)
