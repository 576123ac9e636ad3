"""How the ledger adds up: finished work once, everything else apart."""

from __future__ import annotations

import itertools
from typing import Any

from selfdev_core.ledger import Ledger
from selfdev_core.ledger.events import Event, What
from selfdev_core.ledger.totals import ProcessEvents, add_up
from selfdev_core.records import Cost

HERE, ELSEWHERE = 0.0, None


def process(name: str, *events: Event, last_seen: float | None = HERE) -> ProcessEvents:
    numbered = (one.model_copy(update={"number": number}) for number, one in enumerate(events, 1))
    return ProcessEvents(name, tuple(numbered), last_seen)


def event(what: What, when: float, **about: Any) -> Event:
    return Event(number=1, what=what, when=when, **about)


def done(when: float, key: str, stage: str = "evaluate", **about: Any) -> Event:
    cost = Cost(seconds=2.0, programs=1, questions=10, tokens=100)
    return event("done", when, stage=stage, key=key, **{"cost": cost, "device": "cpu", "occupied": 1.5} | about)


def test_each_finished_unit_counts_once_and_a_second_finish_is_repeated() -> None:
    first = process("a", done(1, "x"), done(2, "y"))
    second = process("b", done(3, "x"), done(4, "z"))
    total = add_up("c", [second, first]).stages["evaluate"]
    assert (total.units, total.repeated, total.remade) == (3, 1, 0)
    assert total.cost == Cost(seconds=6.0, programs=3, questions=30, tokens=300)
    assert total.overhead_seconds == 2.0
    assert total.occupied == {"cpu": 6.0}


def test_the_same_key_in_another_stage_is_other_work() -> None:
    ledger = add_up("c", [process("a", done(1, "x"), done(2, "x", stage="validate"))])
    assert ledger.repeated == {"evaluate": 0, "validate": 0}
    assert ledger.cost.programs == 2


def test_work_on_a_damaged_record_and_what_is_never_kept_are_not_called_repeated() -> None:
    ledger = add_up(
        "c",
        [
            process(
                "a", done(1, "x"), done(2, "x", remade=True), done(3, "m", stage="pairs"), done(4, "m", stage="pairs")
            )
        ],
    )
    assert {name: stage.remade for name, stage in ledger.stages.items()} == {"evaluate": 1, "pairs": 1}
    assert ledger.repeated_evaluations == 0 and not any(ledger.repeated.values())


def test_hits_retries_and_races_are_counted_apart_from_work() -> None:
    events = [
        event("hit", 1, stage="evaluate", key="x"),
        event("hit", 2, stage="evaluate", key="job", units=16),
        event("retry", 3, stage="evaluate", key="job"),
        done(4, "y", raced=True),
    ]
    ledger = add_up("c", [process("a", *events)])
    total = ledger.stages["evaluate"]
    assert (ledger.hits, ledger.retries, total.raced, total.units) == (17, 1, 1, 1)


def test_a_run_without_an_end_was_killed_unless_it_is_still_running() -> None:
    ended = process("a", event("run-began", 10), event("run-ended", 20, note="finished"))
    killed = process("b", event("run-began", 30), event("killed", 45))
    running = process("c", event("run-began", 50), last_seen=58.0)
    ledger = add_up("c", [running, killed, ended])
    assert [run.outcome for run in ledger.runs] == ["finished", "killed", "running"]
    assert ledger.kills == 1
    assert ledger.wall_seconds == 10 + 15 + 8


def test_a_run_of_a_machine_that_is_gone_was_killed_once_the_campaign_went_on() -> None:
    gone = process("a", event("run-began", 10), done(15, "x"), last_seen=ELSEWHERE)
    assert add_up("c", [gone]).runs[0].outcome == "running"
    again = process("b", event("run-began", 50), event("run-ended", 60, note="finished"))
    ledger = add_up("c", [gone, again])
    assert ledger.kills == 1 and ledger.wall_seconds == 5 + 10


def test_runs_side_by_side_take_wall_time_once() -> None:
    one = process("a", event("run-began", 0), event("run-ended", 10, note="finished"))
    two = process("b", event("run-began", 5), event("run-ended", 12, note="finished"))
    assert add_up("c", [one, two]).wall_seconds == 12


def killed_in(stage: str) -> Ledger:
    events = [
        event("run-began", 0),
        event("job-began", 1, stage=stage, job="job"),
        done(5, "x", stage=stage, job="job"),
        event("job-began", 5, stage=stage, job="other"),
        event("job-ended", 8, stage=stage, job="other"),
        event("killed", 9),
    ]
    return add_up("c", [process("a", *events)])


def test_what_was_in_hand_at_a_kill_is_overhead() -> None:
    evaluating = killed_in("evaluate").stages["evaluate"]
    assert evaluating.overhead_seconds == 4.0 and evaluating.occupied == {"cpu": 1.5 + 4.0}
    merging = killed_in("merge").stages["merge"]
    assert merging.overhead_seconds == 4.0 and merging.occupied == {"cpu": 1.5}


def test_lost_work_is_overhead_and_held_its_device() -> None:
    lost = event("lost", 1, stage="train", key="t", cost=Cost(seconds=7.0), device="H200", occupied=6.0)
    total = add_up("c", [process("a", lost)]).stages["train"]
    assert (total.units, total.overhead_seconds, total.occupied) == (0, 7.0, {"H200": 6.0})


def test_the_order_of_processes_changes_nothing() -> None:
    parts = [process("a", done(1, "x")), process("b", done(2, "x"), done(3, "y")), process("c", event("run-began", 4))]
    assert len({add_up("c", list(order)).digest for order in itertools.permutations(parts)}) == 1
