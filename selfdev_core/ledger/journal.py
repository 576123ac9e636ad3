"""Writes the ledger of one process: to a local file at once, and into the store from time to time.

The local file (`SELFDEV_HOME/campaigns/<name>/ledger`) survives a SIGKILL; the store makes the work of other machines count.
What a killed process had not put into the store is put there by the next process that works on the campaign on its machine.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from selfdev_core.errors import StoreError
from selfdev_core.home import campaign_folder
from selfdev_core.ledger.events import LEDGER, Event, LedgerSegment, What
from selfdev_core.ledger.files import JournalFile, Lines, Mirrored, is_complete, journals
from selfdev_core.records import Cost
from selfdev_core.store.artifacts import ArtifactStore

_MIRROR_SECONDS = 30.0  # between two segments of a process whose life is short; a long life waits longer
_MIRROR_SHARE = 0.01  # of the life of the process: so even a week leaves some hundred segments only
_ALIVE_SECONDS = 5.0
_SEGMENT_EVENTS = 2000  # at most: a segment is read whole

_job: ContextVar[tuple[str, str]] = ContextVar("job", default=("", ""))  # stage and key of this thread's job


class Journal:
    """The ledger of this process for one campaign; without a campaign it holds nothing. Thread-safe.

    `note` is told what could not be written. The file is made with the first event.
    """

    def __init__(self, campaign: str, store: ArtifactStore, note: Callable[[str], None]) -> None:
        self.campaign, self._store, self._note = campaign, store, note
        self.process = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._lock, self._mirroring = threading.Lock(), threading.Lock()
        self._file: JournalFile | None = None
        self._unwritten: list[Event] = []
        self._pending: list[Event] = []
        self._count = 0
        self._began = self._mirrored = time.monotonic()
        self._running = False

    def done(
        self,
        stage: str,
        key: str,
        cost: Cost,
        device: str = "cpu",
        occupied: float = 0.0,
        remade: bool = False,
        raced: bool = False,
    ) -> None:
        """A unit of work is finished, and its record (if it has one) stored."""
        about: dict[str, Any] = {"cost": cost, "device": device, "occupied": occupied}
        self._add("done", stage=stage, key=key, **about, remade=remade, raced=raced)

    def lost(self, stage: str, key: str, cost: Cost, device: str, occupied: float, why: str) -> None:
        """A unit of work ended with an error; what it cost is overhead."""
        self._add("lost", stage=stage, key=key, cost=cost, device=device, occupied=occupied, note=why)

    def hit(self, stage: str, key: str, units: int = 1) -> None:
        """So many units were found in the store."""
        self._add("hit", stage=stage, key=key, units=units)

    def retry(self, note: str) -> None:
        """This thread's job, or its call of a worker that died, is tried again."""
        stage, key = _job.get()
        self._add("retry", stage=stage, key=key, note=note)

    @contextmanager
    def job(self, stage: str, key: str) -> Iterator[None]:
        """A chunk of a stage runs in this thread; what is done inside is put into the store afterwards."""
        token = _job.set((stage, key))
        self._add("job-began", stage=stage, key=key)
        try:
            yield
        except BaseException as error:
            self._add("job-ended", stage=stage, key=key, note=type(error).__name__)
            raise
        else:
            self._add("job-ended", stage=stage, key=key)
            life = time.monotonic() - self._began
            if not self._running or time.monotonic() - self._mirrored > _MIRROR_SECONDS + _MIRROR_SHARE * life:
                self.mirror()
        finally:
            _job.reset(token)

    @contextmanager
    def run(self) -> Iterator[None]:
        """The campaign runs in this process. A run that does not end by itself was killed, and is counted as such."""
        self._add("run-began")
        self._running, self._mirrored = True, time.monotonic()
        over = threading.Event()
        threading.Thread(target=self._live, args=(over,), daemon=True).start()
        note, waited_enough = "finished", False
        try:
            yield
        except BaseException as error:
            note = f"failed: {type(error).__name__}" if isinstance(error, Exception) else "stopped"
            waited_enough = isinstance(error, StoreError)
            raise
        finally:
            over.set()
            self._running = False
            self._add("run-ended", note=note)
            if not waited_enough:
                self.mirror()

    def mirror(self) -> None:
        """Put into the store what is not there yet. A store that cannot take it now gets it later."""
        with self._mirroring:
            with self._lock:
                events, self._pending = self._pending, []
                self._mirrored = time.monotonic()
            if not events:
                return
            try:
                _store_segments(self._store, self.campaign, self.process, events)
            except StoreError as error:
                with self._lock:
                    self._pending = [*events, *self._pending]
                self._note(f"the ledger could not be put into the store ({error}); it is kept and put there later")
                return
            with self._lock, suppress(OSError):  # without the mark the segment is stored once more, under the same key
                if self._file is not None:
                    self._file.append(Mirrored(mirrored=events[-1].number))

    def close(self) -> None:
        """Put the rest into the store and let go of the file."""
        self.mirror()
        with self._lock:
            if self._file is not None:
                if not (self._running or self._pending or self._unwritten):
                    with suppress(OSError):  # without the mark the next process looks through it once more
                        self._file.append(Mirrored(mirrored=self._count, complete=True))
                self._file.close()
                self._file = None

    def _add(self, what: What, **about: Any) -> None:
        if not self.campaign:
            return
        with self._lock:
            self._count += 1
            event = Event(number=self._count, what=what, when=round(time.time(), 3), job=_job.get()[1][:16], **about)
            self._pending.append(event)
            self._unwritten.append(event)
            try:
                if self._file is None:
                    self._file = self._open()
                while self._unwritten:
                    self._file.append(self._unwritten[0])
                    del self._unwritten[0]
            except OSError as error:  # it stays in memory and is tried again with the next event
                if len(self._unwritten) == 1:
                    self._note(f"the ledger could not be written ({error}); free some space in {self._folder}")

    @property
    def _folder(self) -> Path:
        return campaign_folder(self.campaign) / LEDGER

    def _open(self) -> JournalFile:
        """This process's file. What processes that are gone have left is completed first."""
        for path in journals(self.campaign):
            with suppress(BlockingIOError):
                _complete(path, self.campaign, self._store, self._note)
        return JournalFile(self._folder / f"{self.process}.jsonl")

    def _live(self, over: threading.Event) -> None:
        while not over.wait(_ALIVE_SECONDS):
            with self._lock, suppress(OSError):
                if self._file is not None:
                    self._file.touch()


def _complete(path: Path, campaign: str, store: ArtifactStore, note: Callable[[str], None]) -> None:
    """Say that a process was killed, and put into the store what it had not. Raises BlockingIOError when it lives."""
    if is_complete(path):
        return
    file = JournalFile(path, wait=False)
    try:
        lines = Lines(path)
        pending: list[Event] = []
        unended = 0  # runs and jobs
        for event in lines:
            if pending and pending[0].number <= lines.mirrored:
                pending = [one for one in pending if one.number > lines.mirrored]
            pending.append(event)
            unended += (event.what in ("run-began", "job-began")) - (event.what in ("run-ended", "job-ended"))
            unended = 0 if event.what == "killed" else unended
        pending = [one for one in pending if one.number > lines.mirrored]
        if unended > 0:
            killed = Event(number=lines.last + 1, what="killed", when=round(lines.modified, 3))
            file.append(killed)
            pending.append(killed)
        if pending:
            _store_segments(store, campaign, lines.process, pending)
        file.append(Mirrored(mirrored=max(lines.mirrored, *(one.number for one in pending), 0), complete=True))
    except StoreError as error:
        note(f"{path.name} could not be put into the store ({error}); the next run tries again")
    finally:
        file.close()


def _store_segments(store: ArtifactStore, campaign: str, process: str, events: list[Event]) -> None:
    for start in range(0, len(events), _SEGMENT_EVENTS):
        part = tuple(events[start : start + _SEGMENT_EVENTS])
        segment = LedgerSegment(campaign=campaign, process=process, events=part)
        store.write(LEDGER, segment.key, segment)
