"""Adds the ledger up. Finished work counts once per stage and content key, whatever was killed, raced or made again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from pydantic import Field

from selfdev_core.ledger.events import Event
from selfdev_core.records import Cost, Record

# Its result is not kept: pairs are chosen in milliseconds, so they may be made again.
WITHOUT_RECORD = ("pairs",)
# What a model worker does. The other stages hold a processor for moments, and a device only where they name one.
WORKERS_STAGES = ("generate", "evaluate", "train")


class StageTotal(Record):
    """One stage. `cost` is of the finished units, each counted once; the rest says what came on top."""

    units: int = Field(0, description="Distinct units finished by this campaign.")
    cost: Cost = Cost()
    repeated: int = Field(
        0, description="Units finished again although their record had been written: 0 unless it was removed."
    )
    remade: int = Field(
        0,
        description="Units made again because a record was damaged, or is never kept: pairs, and the tensors of a merge.",
    )
    raced: int = Field(0, description="Units that another process stored while this campaign was computing them.")
    overhead_seconds: float = Field(
        0.0, description="Units repeated, remade or lost to an error, and what was in hand at a kill."
    )
    hits: int = Field(0, description="Units found in the store instead of computed.")
    retries: int = 0
    occupied: dict[str, float] = Field(default_factory=dict, description="Device → seconds held, overhead included.")


class Run(Record):
    """One start or continuation of the campaign. `outcome`: finished, stopped, failed: …, killed, running."""

    process: str
    began: float
    ended: float
    outcome: str

    @property
    def seconds(self) -> float:
        return max(0.0, self.ended - self.began)


class ProcessEvents(NamedTuple):
    """What one process told, in order. `last_seen`: its last sign of life, seconds since 1970; None for a process of
    another machine, whose end is known only when it told it. `gone`: it is known to live no more.
    """

    process: str
    events: Iterable[Event]
    last_seen: float | None = None
    gone: bool = False


class Ledger(Record):
    """What a campaign took, over all its runs, processes and machines."""

    campaign: str
    stages: dict[str, StageTotal]
    runs: tuple[Run, ...]
    unreadable: int = Field(0, description="Lines and segments that could not be read, so are not counted.")

    @property
    def repeated(self) -> dict[str, int]:
        """Stage → units finished again although their record had been written."""
        return {name: stage.repeated for name, stage in self.stages.items()}

    @property
    def repeated_evaluations(self) -> int:
        """Finished evaluations of candidates or models that were computed again."""
        return self.repeated.get("evaluate", 0)

    @property
    def kills(self) -> int:
        """Runs that are over and did not end by themselves."""
        return sum(run.outcome == "killed" for run in self.runs)

    @property
    def retries(self) -> int:
        return sum(stage.retries for stage in self.stages.values())

    @property
    def hits(self) -> int:
        return sum(stage.hits for stage in self.stages.values())

    @property
    def cost(self) -> Cost:
        """Of all finished units."""
        return sum((stage.cost for stage in self.stages.values()), Cost())

    @property
    def wall_seconds(self) -> float:
        """Time during which the campaign was running; runs side by side count once."""
        total, until = 0.0, 0.0
        for run in sorted(self.runs, key=lambda run: run.began):
            total += max(0.0, run.ended - max(run.began, until))
            until = max(until, run.ended)
        return total

    @property
    def device_seconds(self) -> float:
        """Seconds for which model workers, or merges on a GPU, held their device."""
        return sum(seconds for stage in self.stages.values() for seconds in stage.occupied.values())


class _Unit(NamedTuple):
    """A finished unit of work: small, since a big campaign has hundreds of thousands of them."""

    when: float
    seconds: float
    programs: int
    questions: int
    tokens: int
    remade: bool
    raced: bool


class _Stage:
    """A stage's events, added up one by one in any order; of several finishes of a unit the earliest counts."""

    def __init__(self, name: str) -> None:
        self._kept = name not in WITHOUT_RECORD
        self._units: dict[str, _Unit] = {}
        self._counts: dict[str, int] = defaultdict(int)
        self._occupied: dict[str, float] = defaultdict(float)
        self._overhead = 0.0

    def add(self, event: Event) -> None:
        cost = event.cost
        if event.what in ("done", "lost") and event.occupied:
            self._occupied[event.device] += event.occupied
        if event.what == "done":
            unit = _Unit(
                event.when, cost.seconds, cost.programs, cost.questions, cost.tokens, event.remade, event.raced
            )
            first = self._units.setdefault(event.key, unit)
            if first is not unit:
                self._units[event.key], later = sorted((first, unit))
                self._overhead += later.seconds
                self._counts["remade" if later.remade or not self._kept else "repeated"] += 1
        elif event.what == "lost":
            self._overhead += cost.seconds
        elif event.what == "hit":
            self._counts["hits"] += event.units
        elif event.what == "retry":
            self._counts["retries"] += 1

    def total(self) -> StageTotal:
        units = sorted(self._units.values())  # sums of floats in one order
        return StageTotal(
            units=len(units),
            cost=Cost(
                seconds=sum(unit.seconds for unit in units),
                programs=sum(unit.programs for unit in units),
                questions=sum(unit.questions for unit in units),
                tokens=sum(unit.tokens for unit in units),
            ),
            raced=sum(unit.raced for unit in units),
            overhead_seconds=self._overhead,
            occupied=dict(self._occupied),
            **self._counts,
        )


def add_up(campaign: str, processes: Iterable[ProcessEvents], unreadable: int = 0) -> Ledger:
    """The ledger of a campaign from the events of its processes, in any order of processes."""
    stages: dict[str, _Stage] = {}
    runs: list[Run] = []
    for one in processes:
        runs += _walk(one, stages)
    runs.sort(key=lambda run: (run.began, run.process))
    for number, run in enumerate(runs):
        if run.outcome == "unknown":  # of another machine: when the campaign was continued, it was gone
            runs[number] = run.model_copy(update={"outcome": "running" if run is runs[-1] else "killed"})
    totals = {name: stages[name].total() for name in sorted(stages)}
    return Ledger(campaign=campaign, stages=totals, runs=tuple(runs), unreadable=unreadable)


def _walk(one: ProcessEvents, stages: dict[str, _Stage]) -> list[Run]:
    """Add a process's events to the stages; returns its runs."""

    def add(event: Event) -> None:
        if event.stage:
            stages.setdefault(event.stage, _Stage(event.stage)).add(event)

    runs: list[Run] = []
    began: float | None = None
    jobs: dict[str, Event] = {}  # a job that has begun → the last event of it
    device, last = "cpu", 0.0

    def end(when: float, outcome: str) -> None:
        nonlocal began
        if began is not None:
            runs.append(Run(process=one.process, began=began, ended=when, outcome=outcome))
            began = None

    def killed(when: float) -> None:
        for open_job in jobs.values():
            add(_in_hand(open_job, when, device))
        jobs.clear()
        end(when, "killed")

    for event in one.events:
        last = event.when
        device = event.device if event.occupied else device
        add(event)
        if event.what == "run-began":
            began = event.when
        elif event.what == "run-ended":
            end(event.when, event.note)
        elif event.what == "killed":
            killed(event.when)
        elif event.what == "job-began":
            jobs[event.job] = event
        elif event.what == "job-ended":
            jobs.pop(event.job, None)
        elif event.job in jobs:
            jobs[event.job] = jobs[event.job].model_copy(update={"when": event.when})
    last = max(last, one.last_seen or 0.0)
    if one.gone:
        killed(last)
    end(last, "unknown" if one.last_seen is None else "running")
    return runs


def _in_hand(job: Event, killed: float, device: str) -> Event:
    """What was in hand in a job at a kill: all the time since its last event, and a worker was held for as long."""
    seconds = max(0.0, killed - job.when)
    occupied = seconds if job.stage in WORKERS_STAGES else 0.0
    about = {"what": "lost", "cost": Cost(seconds=seconds), "device": device, "occupied": occupied}
    return job.model_copy(update=about)
