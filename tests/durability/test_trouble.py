"""A store in trouble under a whole campaign: it waits, or it stops with a clear message and the same command goes on."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.durability_kills import s3_service
from tests.durability.conftest import server_stopped
from tests.durability.essence import differences, essence
from tests.durability.killing import Reference, killed
from tests.durability.place import Place
from tests.durability.schedule import DRIVER, WORKER, Kill
from tests.durability.watch import s3_writes
from tests.store.faults import FAULTS, FaultyProxy

S3 = tuple[Place, FaultyProxy]


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[S3]:
    """A home with a store on S3, behind a proxy that is harmless until told otherwise."""
    with (
        s3_service() as (endpoint, proxy),
        # A prefix of its own: the services of one process share what they hold.
        server_stopped(Place(tmp_path, f"s3://campaigns/{tmp_path.name}", endpoint, proxy.url).prepare()) as place,
    ):
        yield place, proxy


@pytest.mark.slow
def test_a_campaign_killed_in_a_storm_of_faults_ends_the_same(remote: S3, reference: Reference) -> None:
    """Errors, throttling, resets, slow, truncated, shortened and garbled answers to one request in twelve, and kills."""
    place, proxy = remote
    rng, lock = random.Random(4), threading.Lock()
    met: Counter[str] = Counter()

    def storm(method: str, path: str) -> str:
        with lock:
            fault = rng.choice([one for one in FAULTS if one != "timeout"]) if rng.random() < 0.08 else ""
            met[fault] += 1
            return fault

    proxy.choose = storm
    kills = [
        Kill(DRIVER, "trained 1 · evaluate", "inside", 0.4),
        Kill(WORKER, "trained 2 · generate", "inside", 0.4),
        Kill(DRIVER, "finalists · validation", "inside", 0.3),
    ]
    with s3_writes(proxy, place.store) as writes:
        # What is sent twice because an answer was lost is no evaluation made twice: here only the end counts.
        found = killed(place, writes, kills, reference, count=False)
    assert found.faults == [] and len(found.rows) == 3
    assert set(met) == {*FAULTS, ""} - {"timeout"} and sum(met.values()) - met[""] > 30


@pytest.mark.slow
def test_a_store_that_is_silent_and_then_gone_for_a_minute_is_waited_for(remote: S3, reference: Reference) -> None:
    place, proxy = remote
    proxy.stall = 75.0  # longer than the client waits for an answer
    silent = iter(["timeout"])
    with place.running() as driver:
        _until(lambda: _answers(proxy, "/scorecards/") >= 3, driver, place)
        proxy.choose = lambda method, path: next(silent, "")
        _until(lambda: _answers(proxy, "/scorecards/") >= 6, driver, place)
        proxy.go_away()
        time.sleep(60.0)
        assert driver.poll() is None, place.output()
        refused = sum(fault == "reset" for _, _, fault in proxy.seen)
        proxy.come_back()
        assert driver.wait(900) == 0, place.output()
    assert refused > 3 and sum(fault == "timeout" for _, _, fault in proxy.seen) == 1
    assert differences(essence(place), reference.essence) == []


@pytest.mark.slow
def test_a_store_that_stays_away_stops_the_campaign_with_a_clear_message_and_the_same_command_goes_on(
    remote: S3, reference: Reference
) -> None:
    place, proxy = remote
    with place.running() as first:
        _until(lambda: _answers(proxy, "/scorecards/") >= 3, first, place)
    finished = place.finished()
    proxy.go_away()
    place.run(status=2)  # opening waits for a shorter time than a campaign that runs
    said = place.output()
    assert f"store {place.store}: could not" in said and "AWS_ENDPOINT_URL" in said and "Traceback" not in said
    assert "run the same command again" in said
    proxy.come_back()
    place.run()
    assert differences(essence(place), reference.essence) == []
    assert place.finished().items() >= finished.items()


def _answers(proxy: FaultyProxy, part: str) -> int:
    return sum(part in path and method == "PUT" for method, path, _ in proxy.seen)


def _until(reached: object, driver: subprocess.Popen[bytes], place: Place) -> None:
    deadline = time.monotonic() + 600
    while not reached():  # type: ignore[operator]
        assert driver.poll() is None and time.monotonic() < deadline, place.output()
        time.sleep(0.02)
