"""`selfdev gc` and `selfdev store verify` on a finished campaign."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.loop import essence
from selfdev_core.kinds import ALWAYS_KEPT
from tests.flows.conftest import Selfdev
from tests.flows.test_campaign import api, result_of


def _objects(home: Path) -> set[Path]:
    return {path for path in (home / "store").rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_finished_campaign_is_sound_and_only_the_validity_guards_samples_go(
    selfdev: Selfdev, finished: Path, campaign_file: Path
) -> None:
    assert " damaged" not in selfdev("store", "verify").stdout
    before = _objects(finished)
    told = selfdev("gc", "--days", "0").stdout
    assert "stay, for " in told and "tiny" in told
    assert _objects(finished) == before
    selfdev("gc", "--days", "0", "--yes")
    assert {path.parts[-3] for path in before - _objects(finished)} <= {"generated", "verdicts"}
    first = result_of(finished)
    selfdev("run", str(campaign_file))
    assert essence(result_of(finished)) == essence(first)
    newest = api(finished, "/flow_runs/filter", sort="START_TIME_DESC", flow_runs={"name": {"any_": ["tiny"]}})[0]
    runs = api(finished, "/task_runs/filter", sort="EXPECTED_START_TIME_DESC", limit=200)
    states = {
        run["state_name"]
        for run in runs
        if run["start_time"] >= newest["start_time"] and not run["name"].startswith("iteration")
    }
    assert states == {"Cached"}


def test_what_no_campaign_refers_to_goes_only_with_yes_and_only_when_old(selfdev: Selfdev, finished: Path) -> None:
    selfdev("gc", "--days", "0", "--yes")  # the validity guard's samples
    blob = finished / "store" / "blobs" / "ab" / ("ab" + "0" * 62)
    blob.parent.mkdir(exist_ok=True)
    blob.write_bytes(b"")
    assert "nothing to remove" in selfdev("gc").stdout  # it is young
    assert "1 objects (0.0 MB) would go; add --yes" in selfdev("gc", "--days", "0").stdout
    assert blob.exists()
    selfdev("gc", "--days", "0", "--yes")
    assert not blob.exists()


@pytest.mark.slow
def test_damage_is_listed_dropped_and_made_again(selfdev: Selfdev, finished: Path, campaign_file: Path) -> None:
    first = result_of(finished)
    (card, *_) = sorted((finished / "store" / "records" / "scorecards").rglob("*.json"))
    card.write_text(json.dumps(json.loads(card.read_text()) | {"sha256": "0" * 64}))
    told = selfdev("store", "verify", status=1).stdout
    assert f"damaged  {card.relative_to(finished / 'store')}: does not match its digest" in told and "--drop" in told
    assert card.exists()
    assert "removed 1" in selfdev("store", "verify", "--drop").stdout
    assert not card.exists()
    selfdev("run", str(campaign_file))
    assert essence(result_of(finished)) == essence(first)


def test_a_store_that_is_no_store_is_refused(selfdev: Selfdev) -> None:
    told = selfdev("gc", "--store", "s3://KEY:hushhush@bucket", status=2).stderr
    assert "credentials do not belong" in told and "hushhush" not in told


@pytest.mark.slow
def test_a_forgotten_campaign_goes_but_its_ledger_stays(selfdev: Selfdev, alone: Path, campaign_file: Path) -> None:
    selfdev("gc", "--days", "0", "--forget", "tiny", "--yes")
    kinds = {path.parts[-3] for path in (alone / "store" / "records").rglob("*.json")}
    assert {"openings", "questions", "ledger"} <= kinds <= set(ALWAYS_KEPT)
    assert not list((alone / "store" / "blobs").rglob("*-*"))
    first = result_of(alone)
    selfdev("run", str(campaign_file))
    assert essence(result_of(alone)) == essence(first)
