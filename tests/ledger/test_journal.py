"""What is finished is counted, whatever happens to the process, its disk or its store."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from selfdev_core.errors import StoreError
from selfdev_core.home import campaign_folder
from selfdev_core.ledger import Ledger, read_ledger
from selfdev_core.ledger.files import Lines, is_complete, journals
from selfdev_core.ledger.journal import Journal
from selfdev_core.records import Cost
from selfdev_core.store.artifacts import ArtifactStore

UNIT = Cost(seconds=1.0, programs=1, questions=8, tokens=40)


def journal(store: ArtifactStore, notes: list[str] | None = None) -> Journal:
    return Journal("mine", store, (notes if notes is not None else []).append)


@contextmanager
def another_process(store: ArtifactStore, body: str, home: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process with a journal of its own; `body` prints a line when it got where it should be killed."""
    script = f"""
        from selfdev_core.ledger.journal import Journal
        from selfdev_core.records import Cost
        from selfdev_core.store.artifacts import ArtifactStore
        import sys, time
        journal = Journal("mine", ArtifactStore({store.address!r}), print)
        UNIT = Cost(seconds=1.0, programs=1, questions=8, tokens=40)
    """
    environment = os.environ | ({"SELFDEV_HOME": str(home)} if home else {})
    text = textwrap.dedent(script) + textwrap.dedent(body)
    process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


RUNS_UNTIL_KILLED = """
    with journal.run():
        with journal.job("evaluate", "job"):
            for number in range(5):
                journal.done("evaluate", f"unit-{number}", UNIT)
            print("here", flush=True)
            time.sleep(600)
"""


def killed_run(store: ArtifactStore, home: Path | None = None) -> None:
    with another_process(store, RUNS_UNTIL_KILLED, home) as process:
        assert process.stdout is not None and process.stdout.readline() == "here\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


def test_a_sigkill_loses_nothing_that_was_finished(store: ArtifactStore) -> None:
    killed_run(store)
    ledger = read_ledger("mine", store)
    total = ledger.stages["evaluate"]
    assert (total.units, total.repeated, ledger.kills) == (5, 0, 1)
    assert total.cost == Cost(seconds=5.0, programs=5, questions=40, tokens=200)


def test_a_run_that_lives_is_not_called_killed(store: ArtifactStore) -> None:
    with another_process(store, RUNS_UNTIL_KILLED) as process:
        assert process.stdout is not None and process.stdout.readline() == "here\n"
        ledger = read_ledger("mine", store)
        assert [run.outcome for run in ledger.runs] == ["running"] and ledger.kills == 0
        assert ledger.stages["evaluate"].units == 5


def test_what_a_killed_process_left_is_put_into_the_store_by_the_next(store: ArtifactStore) -> None:
    killed_run(store)
    before = read_ledger("mine", store)
    mine = journal(store)
    with mine.run():
        mine.done("evaluate", "unit-5", UNIT)
    mine.close()
    assert all(is_complete(path) for path in journals("mine"))
    shutil.rmtree(campaign_folder("mine"))  # all from the store now, as another machine sees it
    after = read_ledger("mine", store)
    assert (after.stages["evaluate"].units, after.kills, len(after.runs)) == (6, 1, 2)
    assert after.runs[0].ended == pytest.approx(before.runs[0].ended, abs=0.01)
    assert after.stages["evaluate"].repeated == 0


def test_work_of_another_machine_counts_from_the_end_of_its_job(store: ArtifactStore, tmp_path: Path) -> None:
    body = """
        with journal.job("evaluate", "job"):
            journal.done("evaluate", "far", UNIT)
        print("here", flush=True)
        time.sleep(600)
    """
    with another_process(store, body, tmp_path / "other-home") as process:
        assert process.stdout is not None and process.stdout.readline() == "here\n"
        assert read_ledger("mine", store).stages["evaluate"].units == 1


def test_an_event_that_is_in_the_store_and_in_the_journal_counts_once(store: ArtifactStore) -> None:
    mine = journal(store)
    with mine.run():
        mine.done("evaluate", "x", UNIT)
        mine.hit("evaluate", "y")
        mine.mirror()
        mine.done("evaluate", "z", UNIT)
        ledger = read_ledger("mine", store)
    assert (ledger.stages["evaluate"].units, ledger.hits, ledger.repeated_evaluations) == (2, 1, 0)


def test_runs_say_how_they_ended(store: ArtifactStore) -> None:
    mine = journal(store)
    with mine.run():
        pass
    for error in (KeyboardInterrupt, ValueError, StoreError):
        with pytest.raises(error), mine.run():
            raise error
    outcomes = [run.outcome for run in read_ledger("mine", store).runs]
    assert outcomes == ["finished", "stopped", "failed: ValueError", "failed: StoreError"]


def test_a_line_cut_short_is_passed_over_and_counted_as_unreadable(store: ArtifactStore) -> None:
    killed_run(store)
    (path,) = journals("mine")
    path.write_bytes(path.read_bytes()[:-20])
    ledger = read_ledger("mine", store)
    assert (ledger.stages["evaluate"].units, ledger.unreadable, ledger.kills) == (4, 1, 1)
    mine = journal(store)
    mine.done("evaluate", "more", UNIT)  # completes the other file: the cut line stays one line
    lines = Lines(path)
    assert list(lines)[-1].what == "killed" and lines.unreadable == 1
    assert read_ledger("mine", store).stages["evaluate"].units == 5


def test_a_full_disk_is_told_and_what_was_done_is_written_when_there_is_space(store: ArtifactStore) -> None:
    body = """
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        journal.done("evaluate", "a", UNIT)
        used = sum(path.stat().st_size for path in journal._folder.glob("*"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (used + 50, resource.RLIM_INFINITY))
        journal.done("evaluate", "b", UNIT)
        journal.done("evaluate", "c", UNIT)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        journal.done("evaluate", "d", UNIT)
        print("here", flush=True)
        time.sleep(600)
    """
    with another_process(store, body) as process:
        assert process.stdout is not None
        told = process.stdout.readline()
        assert "free some space" in told and process.stdout.readline() == "here\n"
        ledger = read_ledger("mine", store)
    assert ledger.stages["evaluate"].units == 4 and ledger.repeated_evaluations == 0


def test_a_store_that_fails_gets_its_part_later(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    mine = journal(store, notes)
    mine.done("evaluate", "x", UNIT)

    def away(*_: object) -> None:
        raise StoreError("away")

    with monkeypatch.context() as patch:
        patch.setattr(store, "write", away)
        mine.mirror()
    assert len(notes) == 1 and "put there later" in notes[0]
    mine.done("evaluate", "y", UNIT)
    mine.close()
    shutil.rmtree(campaign_folder("mine"))
    assert read_ledger("mine", store).stages["evaluate"].units == 2


def test_a_damaged_segment_is_counted_as_unreadable_and_the_rest_stands(store: ArtifactStore) -> None:
    mine = journal(store)
    for number in range(3):
        mine.done("evaluate", str(number), UNIT)
        mine.mirror()
    damaged = sorted((Path(store.address) / "records" / "ledger").rglob("*.json"))[0]
    damaged.write_text(damaged.read_text().replace("evaluate", "validate"))
    assert read_ledger("mine", store).stages["evaluate"].units == 3  # the journal still has it
    shutil.rmtree(campaign_folder("mine"))
    rest = read_ledger("mine", store)
    assert (rest.stages["evaluate"].units, rest.unreadable) == (2, 1)


def test_a_damaged_line_of_a_journal_is_read_from_the_store(store: ArtifactStore) -> None:
    mine = journal(store)
    for number in range(3):
        mine.done("evaluate", str(number), UNIT)
    mine.close()
    (path,) = journals("mine")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"junk\n", *lines[2:]]))
    ledger = read_ledger("mine", store)
    assert (ledger.stages["evaluate"].units, ledger.unreadable, ledger.repeated_evaluations) == (3, 1, 0)


def test_events_stored_again_in_a_longer_segment_count_once(store: ArtifactStore) -> None:
    mine = journal(store)
    for number in range(4):
        mine.done("evaluate", str(number // 2), UNIT)
        mine.mirror()
    path = journals("mine")[0]
    unmarked = [line for line in path.read_bytes().splitlines(keepends=True) if b"mirrored" not in line]
    mine.close()
    path.write_bytes(b"".join(unmarked))  # as if no mark had reached the disk before a kill
    other = journal(store)
    other.hit("evaluate", "x")  # stores all four again, as one segment
    other.close()
    here = read_ledger("mine", store).stages["evaluate"]
    shutil.rmtree(campaign_folder("mine"))
    elsewhere = read_ledger("mine", store).stages["evaluate"]
    assert here == elsewhere and (here.units, here.repeated, here.hits) == (2, 2, 1)


def test_a_long_backlog_is_stored_in_several_segments(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfdev_core.ledger.journal._SEGMENT_EVENTS", 4)
    mine = journal(store)
    for number in range(10):
        mine.done("evaluate", str(number), UNIT)
    mine.close()
    shutil.rmtree(campaign_folder("mine"))
    assert len(list((Path(store.address) / "records" / "ledger").rglob("*.json"))) == 3
    assert read_ledger("mine", store).stages["evaluate"].units == 10


def test_campaigns_on_one_store_have_ledgers_of_their_own(store: ArtifactStore) -> None:
    for name, count in (("mine", 1), ("yours", 2)):
        one = Journal(name, store, print)
        for number in range(count):
            one.done("evaluate", str(number), UNIT)
        one.close()
    found: dict[str, Ledger] = {name: read_ledger(name, store) for name in ("mine", "yours", "nobody")}
    assert {name: ledger.cost.programs for name, ledger in found.items()} == {"mine": 1, "yours": 2, "nobody": 0}


def test_work_for_no_campaign_is_not_counted(store: ArtifactStore, home: Path) -> None:
    nobody = Journal("", store, print)
    nobody.done("evaluate", "x", UNIT)
    nobody.close()
    assert not list(home.rglob("*.jsonl")) and not (Path(store.address) / "records").exists()


def test_a_journal_line_is_json_a_person_can_read(store: ArtifactStore) -> None:
    mine = journal(store)
    mine.done("evaluate", "x", UNIT, occupied=0.5)
    (path,) = journals("mine")
    line = json.loads(path.read_text())
    assert line["what"] == "done" and line["stage"] == "evaluate" and line["cost"]["questions"] == 8
