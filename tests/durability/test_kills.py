"""Whatever is killed, and whenever, the same command goes on and ends as if nothing had happened."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.durability_kills import StoreKind, kill_campaigns
from tests.durability.schedule import ALONE, DRIVER, PROGRAM, SANDBOX, SERVER, STAGES, WORKER, deal, plan


def test_a_plan_holds_every_boundary_and_every_stage_and_every_victim() -> None:
    kills = plan(44, seed=0) + plan(44, seed=1)
    assert {kill.victim for kill in kills} == {DRIVER, ALONE, WORKER, SANDBOX, PROGRAM, SERVER}
    whole = plan(80, seed=0)
    assert {kill.stage for kill in whole if kill.moment == "begin"} == {*STAGES, "finished"}
    assert {kill.stage for kill in whole if kill.moment == "inside"} >= {s for s in STAGES if "untrained 1" not in s}
    assert plan(44, seed=0) == plan(44, seed=0) != plan(44, seed=1)
    parts = deal(whole, 7)
    assert sorted(kill for part in parts for kill in part) == sorted(whole)
    assert all(part == sorted(part, key=lambda kill: kill.position) for part in parts)


@pytest.mark.slow
@pytest.mark.parametrize("store_kind", ["folder", "s3"])
def test_killed_campaigns_end_as_one_that_nobody_killed(store_kind: StoreKind) -> None:
    found: dict[str, Any] = kill_campaigns(store_kind, 44, seed=0)
    assert found["faults"] == []
    assert found["kills"] >= 40 and found["kills_identical"] == found["kills"]
    assert found["repeated_evaluations"] == 0
    assert set(found["by_victim"]) == {DRIVER, ALONE, WORKER, SANDBOX, PROGRAM, SERVER}
