"""Attacks are no duds: in a plain process each does the harm that the sandbox prevents."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.security.census import Census
from tests.security.control import Control
from tests.security.hostile import HOSTILE
from tests.security.world import World

PATIENCE = {"stalls": 0.3, "talks": 1.5}
ROOT = os.geteuid() == 0
NAMES = [one.name for one in HOSTILE.values() if one.control == "anyone" or (one.control == "root" and ROOT)]


@pytest.fixture(scope="module")
def outside() -> Iterator[World]:
    """A world of its own: what is done here must not reach the sandboxes under test."""
    one = World()
    yield one
    one.close()


@pytest.fixture(scope="module")
def control(outside: World, world: World) -> Iterator[tuple[Control, Census]]:
    plain = Control(outside)
    yield plain, Census()
    plain.close()
    world.harms()  # whoever signals every process signals the victim of the other world too


@pytest.mark.parametrize("name", NAMES)
def test_does_its_harm_where_nothing_holds_it(name: str, outside: World, control: tuple[Control, Census]) -> None:
    hostile, (plain, census) = HOSTILE[name], control
    report = plain.run(outside.source(hostile.source), PATIENCE.get(hostile.harm, 5.0))
    carried = bytes.fromhex(report.carried).decode("utf-8", "replace")
    done = {finding.harm for finding in (*outside.secrets_in({}, carried), *outside.harms())}
    if strangers := census.strangers(patience=0.05):
        done.add("outlives")
        census.end(strangers)
    if report.lingers:
        done.add("lingers")
    if report.ended == "stalls":
        done.add("stalls")
    if report.ended.startswith("code"):
        done.add("crashes")
    # A container may refuse by itself what the sandbox refuses: the attack was made, the machine is closed already.
    refused = hostile.harm == "reaches" and carried.startswith("[Errno 1]")
    assert hostile.harm in done or refused, (report, carried)
