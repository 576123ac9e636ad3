"""Runs one campaign, kills what the plan says when it says so, starts the same command again until it ends."""

from __future__ import annotations

import subprocess
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import psutil

from tests.durability.essence import Essence, differences, essence
from tests.durability.place import Place
from tests.durability.processes import kill_driver, kill_program, kill_sandbox, kill_server, kill_worker, outlived
from tests.durability.schedule import ALONE, DRIVER, PROGRAM, SANDBOX, STAGES, Kill
from tests.durability.watch import Writes

Tell = Callable[[str], None]
_TICK = 0.004  # seconds between looks
_LONGEST = 1200.0  # seconds without a kill or an end
_PATIENCE = 30.0  # seconds in which everything below a dead driver must have ended
_ORDER = ("start-up", *STAGES, "finished")


class Row(NamedTuple):
    """One kill that was done. `stage_then`: what status.json said at that moment; `second`: since the campaign's first start.
    `orphan_seconds`: until everything below a killed driver had ended. `after`: "went on", or "same command again".
    """

    victim: str
    stage: str
    moment: str
    share: float
    stage_then: str
    second: float
    scorecards: int
    orphan_seconds: float
    after: str


class Outcome(NamedTuple):
    """What became of one killed campaign. Only an empty `faults` is good. `evaluations`: those that came to their end, with
    those whose record a kill caught while it was being written.
    """

    rows: list[Row]
    missed: list[Kill]
    faults: list[str]
    repeated: list[str]
    evaluations: int
    ledger_repeated: int


class Reference(NamedTuple):
    """A campaign that nobody killed: what it found, how many evaluations it made, how long each stage took (seconds), and what
    libraries leave in TMPDIR."""

    essence: Essence
    evaluations: int
    seconds: dict[str, float]
    left: frozenset[str]


def undisturbed(place: Place, writes: Writes) -> Reference:
    """Run the campaign from start to end."""
    seconds: dict[str, float] = {}
    stage, since, started = "start-up", time.monotonic(), time.time()
    with place.running() as driver:
        while driver.poll() is None:
            if (now := stage_of(place, started)) != stage:
                seconds[stage] = time.monotonic() - since
                stage, since = now, time.monotonic()
            time.sleep(_TICK)
    if driver.returncode != 0:
        raise RuntimeError(f"the campaign that nobody kills ended with {driver.returncode}:\n{place.output()[-3000:]}")
    return Reference(
        essence(place), writes.evaluations, seconds, frozenset(path.name for path in place.temporary.iterdir())
    )


def killed(
    place: Place,
    writes: Writes,
    kills: list[Kill],
    reference: Reference,
    count: bool = True,
    tell: Tell = lambda text: None,
) -> Outcome:
    """Run the campaign under these kills and compare its end with the reference's; unless not `count`, nothing may have
    been computed twice."""
    return _Killing(place, writes, kills, reference, count, tell).run()


class _Killing:
    def __init__(
        self, place: Place, writes: Writes, kills: list[Kill], reference: Reference, count: bool, tell: Tell
    ) -> None:
        self.place, self.writes, self.reference, self.count, self.tell = place, writes, reference, count, tell
        self.pending = deque(sorted(kills, key=lambda kill: kill.position))
        self.rows: list[Row] = []
        self.missed: list[Kill] = []
        self.faults: list[str] = []
        self.done: dict[str, str] = {}
        self.began = time.monotonic()
        self.started, self.said = 0.0, 0

    def run(self) -> Outcome:
        starts = 0
        while True:
            starts += 1
            with self.place.running() as driver:
                code = self._once(driver)
            self._compare_finished()
            if code == 0:
                break
            if starts > 3 * len(self.rows) + 3 or self.faults:
                self.faults.append(f"the campaign ended with {code} for the {starts}th time: {self._last_words()}")
                break
        self.missed += self.pending
        self._compare_end()
        repeated = sum(self.place.ledger().repeated.values())
        if self.count and repeated:
            self.faults.append(f"the ledger counts {repeated} repeated: {self.place.ledger().repeated}")
        return Outcome(self.rows, self.missed, self.faults, self.writes.repeated, self.writes.evaluations, repeated)

    def _once(self, driver: subprocess.Popen[bytes]) -> int | None:
        """Follow one driver to its end, by us or by itself; its status, or None when we killed it."""
        marks: dict[str, Any] = {}
        deadline = time.monotonic() + _LONGEST
        self.started, self.said = time.time(), len(self.place.output())
        while driver.poll() is None:
            if time.monotonic() > deadline:
                self.faults.append(f"stands still in {self._stage()!r}: {self._last_words()}")
                driver.kill()
                return driver.wait()
            if self.pending and self._due(self.pending[0], marks):
                marks = {}
                deadline = time.monotonic() + _LONGEST
                kill = self.pending.popleft()
                if self._kill(kill, driver) and kill.victim in (DRIVER, ALONE):
                    return None
            time.sleep(_TICK)
        if driver.returncode != 0 and not self._told(driver.returncode):
            self.faults.append(f"ended with {driver.returncode} and no clear message: {self._last_words()}")
        if self.rows and self.rows[-1].after == "" and driver.returncode != 0:
            self.rows[-1] = self.rows[-1]._replace(after="same command again")
        return driver.returncode

    def _due(self, kill: Kill, marks: dict[str, Any]) -> bool:
        here, there = place_of(self._stage()), place_of(kill.stage)
        if here < there:
            return False
        now = time.monotonic()
        if kill.moment == "begin" or here > there:
            return True
        if kill.moment == "inside":
            since = marks.setdefault("since", now)
            return now - since >= kill.share * self.reference.seconds.get(kill.stage, 1.0)
        count = self.writes.count(kill.moment)
        return count > marks.setdefault("count", count)

    def _kill(self, kill: Kill, driver: subprocess.Popen[bytes]) -> bool:
        orphans, left, after, done = 0.0, [], "", True
        below: list[psutil.Process] = []
        second, scorecards = time.monotonic() - self.began, self.writes.count("scorecards")
        if kill.victim in (DRIVER, ALONE):
            below = kill_driver(driver.pid, group=kill.victim == DRIVER)
            driver.wait()
            orphans, left = outlived(below, _PATIENCE)
            after = "same command again"
        elif kill.victim == "worker":
            done = kill_worker(driver.pid)
        elif kill.victim == SANDBOX:
            done = kill_sandbox(driver.pid)
        elif kill.victim == PROGRAM:
            done = kill_program(driver.pid)
        else:
            done = kill_server(self.place)
        then = self._stage()
        if not done:
            self.missed.append(kill)
            return False
        self.tell(f"  {second:7.1f} s  {kill.victim} in {then!r} ({kill.moment} {kill.share or ''})")
        self.rows.append(Row(*kill, then, round(second, 2), scorecards, round(orphans, 2), after))
        if left:
            self.faults.append(f"{kill}: still there after {_PATIENCE:.0f} s: {left}")
        self._compare_finished()
        return True

    def _compare_finished(self) -> None:
        """Whatever was finished before must be there untouched."""
        now = self.place.finished()
        for name, mark in self.done.items():
            if now.get(name) != mark:
                self.faults.append(f"{name} was finished and is now {now.get(name, 'gone')}, was {mark}")
        self.done = now

    def _compare_end(self) -> None:
        self.rows = [row._replace(after=row.after or "went on") for row in self.rows]
        if self.faults:
            return
        if different := differences(essence(self.place), self.reference.essence):
            self.faults.append(f"differs from the campaign that nobody killed in {different[:8]}")
        if self.count and self.writes.repeated:
            self.faults.append(f"computed again: {self.writes.repeated[:8]}")
        if (verified := self.place.selfdev("store", "verify", "--store", self.place.store)).returncode != 0:
            self.faults.append(f"the store is damaged: {verified.stdout[-1000:]}")
        if left := sorted({path.name for path in self.place.temporary.iterdir()} - self.reference.left):
            self.faults.append(f"left in TMPDIR: {left[:8]}")

    def _told(self, code: int) -> bool:
        """Whether a campaign that stopped by itself said why, and how to go on."""
        said = self.place.output()[self.said :]
        return code == 2 and "error" in said and "go on with:" in said

    def _last_words(self) -> str:
        return self.place.output()[self.said :][-1500:]

    def _stage(self) -> str:
        return stage_of(self.place, self.started)


def stage_of(place: Place, started: float) -> str:
    """The stage that status.json names, or "finished"; "start-up" before the campaign started at `started` has written it."""
    status = place.status()
    if status.get("updated", 0.0) < started:
        return "start-up"
    return "finished" if status["state"] == "finished" else str(status["stage"])


def place_of(stage: str) -> float:
    """Where a stage stands in the campaign; rounds that the untrained arm adds stand before the finalists."""
    return _ORDER.index(stage) if stage in _ORDER else _ORDER.index("finalists · merge controls") - 0.5
