"""A full disk stops the campaign with a clear message; with space again the same command goes on, and nothing is lost."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.durability.conftest import server_stopped
from tests.durability.essence import differences, essence
from tests.durability.killing import Reference
from tests.durability.place import Place


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A disk of a size like `2m` mounted on a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
    if made.returncode != 0:
        pytest.skip(f"a disk that can be full must be mounted, which this user may not: {made.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def grow(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=400m", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_store(place: Place, reference: Reference) -> None:
    """The first big object, the trained factory's weights, does not fit; then nothing does."""
    store = Path(place.store)
    with small_disk(store, "2m"):
        place.run(status=2)
        said = place.output()
        assert "No space left on device; finished work is kept, free some space" in said and "Traceback" not in said
        assert "go on with:" in said
        finished = place.finished()
        assert any("scorecards" in name for name in finished)
        place.run(status=2)  # not even a small record fits now
        assert "No space left on device" in place.output()[len(said) :] and "Traceback" not in place.output()
        grow(store)
        place.run()
        assert place.finished().items() >= finished.items()
        assert differences(essence(place), reference.essence) == []
        assert place.selfdev("store", "verify", "--store", place.store).returncode == 0


@pytest.mark.slow
def test_everything_on_one_full_disk(tmp_path: Path, reference: Reference) -> None:
    """Home, store, scratch and the local server's database, as on a laptop."""
    with (
        small_disk(tmp_path / "disk", "12m"),
        server_stopped(Place(tmp_path / "disk", str(tmp_path / "disk" / "store")).prepare()) as place,
    ):
        place.run(status=2)
        said = place.output()
        assert "go on with:" in said and "Traceback" not in said
        grow(place.folder)
        place.run()
        assert differences(essence(place), reference.essence) == []
        assert place.selfdev("store", "verify", "--store", place.store).returncode == 0


@pytest.mark.slow
def test_a_full_scratch_disk(place: Place, reference: Reference) -> None:
    """Task vectors, merged weights and the trained factory wait below TMPDIR."""
    with small_disk(place.temporary, "2m"):
        place.run(status=2)
        said = place.output()
        assert "free some space for TMPDIR" in said and "Traceback" not in said and "go on with:" in said
        grow(place.temporary)
        place.run()
        assert differences(essence(place), reference.essence) == []
        assert {path.name for path in place.temporary.iterdir()} <= reference.left
