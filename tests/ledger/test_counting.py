"""What the workspace tells the ledger of the work that goes through it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selfdev_core.ledger import Ledger, read_ledger
from selfdev_core.records import Cost, Verdict
from selfdev_core.store.artifacts import ArtifactStore, record_name
from selfdev_core.workspace import Workspace, WorkspaceSettings

KEY = "ab" * 32


@pytest.fixture
def workspace(store: ArtifactStore) -> Iterator[Workspace]:
    made = Workspace(WorkspaceSettings(store=store.address, campaign="mine", models={}, workers=1))
    yield made
    made.close()


def ledger_of(workspace: Workspace) -> Ledger:
    return read_ledger("mine", workspace.store)


def remember(workspace: Workspace, verdict: Verdict, **before: Any) -> Verdict:
    def compute() -> Verdict:
        for name, value in before.items():
            getattr(workspace, name)(*value)
        return verdict

    return workspace.remember("validate", "verdicts", KEY, Verdict, compute, lambda _: Cost(programs=1))


GOOD = Verdict(algorithm_id="a", reason="accepted")
BAD = Verdict(algorithm_id="a", reason="crashed")


def test_what_is_computed_is_done_and_what_is_found_is_a_hit(workspace: Workspace) -> None:
    assert remember(workspace, GOOD) == remember(workspace, BAD) == GOOD
    ledger = ledger_of(workspace)
    total = ledger.stages["validate"]
    assert (total.units, total.cost.programs, total.hits, total.repeated, total.occupied) == (1, 1, 1, 0, {})


def test_a_damaged_record_is_made_again_and_not_called_repeated(workspace: Workspace) -> None:
    remember(workspace, GOOD)
    workspace.store.objects.write(record_name("verdicts", KEY), b"junk")
    remember(workspace, GOOD)
    total = ledger_of(workspace).stages["validate"]
    assert (total.units, total.remade, total.repeated) == (1, 1, 0)


def test_a_finished_record_that_is_computed_again_is_repeated(workspace: Workspace) -> None:
    remember(workspace, GOOD)
    workspace.store.objects.remove(record_name("verdicts", KEY))
    remember(workspace, GOOD)
    assert ledger_of(workspace).repeated == {"validate": 1}


def test_when_another_process_was_first_its_record_counts_and_the_race_is_told(workspace: Workspace) -> None:
    def compute() -> Verdict:
        workspace.store.write("verdicts", KEY, GOOD)  # the other process
        return BAD

    made = workspace.remember("validate", "verdicts", KEY, Verdict, compute, lambda _: Cost(programs=1))
    total = ledger_of(workspace).stages["validate"]
    assert made == GOOD and (total.units, total.raced) == (1, 1)


def test_the_record_is_stored_before_the_unit_counts_as_done(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise OSError("killed here")

    monkeypatch.setattr(workspace.store, "add", away)
    with pytest.raises(OSError, match="killed here"):
        remember(workspace, GOOD)
    total = ledger_of(workspace).stages["validate"]
    assert total.units == 0


def test_units_inside_a_unit_and_waiting_are_not_its_own_seconds(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 10.0, 14.0, 20.0])  # outer begins, inner begins, inner ends, outer ends

    class Clock:
        monotonic = staticmethod(lambda: next(clock))

    from selfdev_core.ledger import meter

    with monkeypatch.context() as patch:
        patch.setattr(meter, "time", Clock)
        with workspace.counted("train", "outer"):
            meter.held_a_worker(3.0, 5.0)
            with workspace.counted("generate", "inner"):
                meter.held_a_worker(1.0, 2.5)
    stages = ledger_of(workspace).stages
    assert stages["train"].cost.seconds == 20.0 - 4.0 - 3.0 and stages["train"].occupied == {"cpu": 5.0}
    assert stages["generate"].cost.seconds == 4.0 - 1.0 and stages["generate"].occupied == {"cpu": 2.5}


def _die_once(marker: str) -> str:
    if not os.path.exists(marker):
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def test_a_worker_that_dies_is_a_retry_and_its_time_is_counted_on_its_device(
    workspace: Workspace, tmp_path: Path
) -> None:
    with workspace.ledger.job("generate", "job"), workspace.counted("generate", "unit"):
        assert workspace.pool.call(_die_once, str(tmp_path / "marker")) == "done"
    total = ledger_of(workspace).stages["generate"]
    assert (total.retries, total.units) == (1, 1)
    assert list(total.occupied) == [workspace.pool.device] and total.occupied[workspace.pool.device] > 0.0
