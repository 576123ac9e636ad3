"""A campaign that nobody kills, once per session and kind of store: what the killed ones must end like."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.durability.killing import Reference, undisturbed
from tests.durability.place import Place
from tests.durability.watch import folder_writes


@contextmanager
def server_stopped(place: Place) -> Iterator[Place]:
    """The local server of the place's home ends with the test."""
    try:
        yield place
    finally:
        place.selfdev("server", "stop")


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    folder = tmp_path_factory.mktemp("reference")
    place = Place(folder, str(folder / "store")).prepare()
    with server_stopped(place), folder_writes(Path(place.store)) as writes:
        return undisturbed(place, writes)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A home with a store in a folder."""
    with server_stopped(Place(tmp_path, str(tmp_path / "store")).prepare()) as made:
        yield made
