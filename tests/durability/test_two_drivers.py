"""The same campaign run twice at once on one store: both end right, with the same result."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.durability_kills import s3_service
from tests.durability.conftest import server_stopped
from tests.durability.essence import differences, essence
from tests.durability.killing import Reference
from tests.durability.place import Place


@pytest.mark.slow
def test_two_machines_on_one_s3_store(tmp_path: Path, reference: Reference) -> None:
    with s3_service() as (endpoint, proxy):
        places = [Place(tmp_path / one, "s3://campaigns/shared", endpoint, proxy.url).prepare() for one in ("a", "b")]
        with server_stopped(places[0]), server_stopped(places[1]):
            with places[0].running() as first, places[1].running() as second:
                for place, driver in zip(places, (first, second), strict=True):
                    assert driver.wait(900) == 0, place.output()
            for place in places:
                assert differences(essence(place), reference.essence) == []


@pytest.mark.slow
def test_twice_in_one_home(place: Place, reference: Reference) -> None:
    """Even the local server is started once only, though both find none."""
    with place.running() as first, place.running() as second:
        for driver in (first, second):
            assert driver.wait(900) == 0, place.output()
    assert differences(essence(place), reference.essence) == []
    assert {path.name for path in place.temporary.iterdir()} <= reference.left
    assert (place.home / "prefect" / "server.log").read_text(errors="replace").count("Check out the dashboard") <= 1
