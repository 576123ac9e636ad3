"""What the ledger holds: one event per piece of work that was finished, found, tried again or lost.

Every process numbers its own events. (process, number) names an event, so one that is read from two places (the local
journal and the store) is counted once.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from selfdev_core.records import Cost, Record, digest_of

LEDGER = "ledger"

What = Literal["run-began", "run-ended", "job-began", "job-ended", "done", "hit", "lost", "retry", "killed"]


class Event(Record):
    """One line of a journal.

    run-began, run-ended: a campaign was started or continued, and came to an end of its own (`note` says which).
    job-began, job-ended: a chunk of a stage.   done: a unit of work was finished and its record stored.
    hit: so many `units` were found, not computed.   lost: work that ended with an error.
    retry: a chunk, or a call of a worker that died, is tried again.
    killed: the process is gone and had not come to an end; `when` is its last sign of life.
    """

    number: int
    what: What
    when: float = Field(description="Seconds since 1970, at the end of what it tells.")
    stage: str = ""
    key: str = Field("", description="Content key of the unit, or of the job for events about jobs.")
    job: str = Field("", description="Beginning of the content key of the job in which it happened.")
    cost: Cost = Field(
        Cost(), description="Of this unit alone: without waiting for a worker, without units made inside it."
    )
    device: str = Field("", description="cpu, or the CUDA device's name.")
    occupied: float = Field(0.0, description="Seconds for which the device was held.")
    units: int = 1
    remade: bool = Field(False, description="The stored record was damaged or gone, so it had to be made again.")
    raced: bool = Field(False, description="Another process stored the record while this one was computing it.")
    note: str = ""


class LedgerSegment(Record):
    """Events of one process, in the store so that they are counted wherever the campaign goes on."""

    campaign: str
    process: str
    events: tuple[Event, ...] = Field(min_length=1)

    @property
    def key(self) -> str:
        """Keys sort by campaign, process and number, so that a listing gives the events of each process in order."""
        return segments_of(self.campaign) + segments_by(self.process) + f"{self.events[0].number:024x}"


def segments_of(campaign: str) -> str:
    """The first 24 hex digits of the key of every segment of a campaign."""
    return digest_of([LEDGER, campaign])[:24]


def segments_by(process: str) -> str:
    """The next 16 hex digits of the key of every segment of a process."""
    return digest_of(process)[:16]
