"""A journal file: JSON lines, appended at once, locked by the process that writes it for as long as it lives.

A line is on its way to the disk when `append` returns, so a SIGKILL loses nothing. The kernel drops the lock of a process
that is gone; that is how its journal is known to be left over. A line that a full disk or a kill cut short is passed over.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field, ValidationError

from selfdev_core.home import campaign_folder
from selfdev_core.ledger.events import Event
from selfdev_core.records import Record


class Mirrored(Record):
    """A line that says: all events up to this number are in the store; `complete`: and there will be no more."""

    mirrored: int = Field(ge=0)
    complete: bool = False


class JournalFile:
    """A file that this process appends to. Raises OSError when it cannot be made or written.

    Raises BlockingIOError when `wait` is False and another process holds it.
    """

    def __init__(self, path: Path, wait: bool = True) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if not wait:
                self.close()
                raise
            # A filesystem without locks: this journal counts as alive for ever.
        size = os.fstat(self._descriptor).st_size
        self._torn = size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"

    def append(self, record: Record) -> None:
        """Write one line. After a line that was cut short, the next one begins anew."""
        line = ("\n" if self._torn else "") + record.model_dump_json(exclude_defaults=True) + "\n"
        data = line.encode()
        self._torn = True
        if os.write(self._descriptor, data) != len(data):
            raise OSError("the disk took only a part of the line")
        self._torn = False

    def touch(self) -> None:
        """A sign of life: the time of the file's last change."""
        os.utime(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


def journals(campaign: str) -> list[Path]:
    """Journal files of a campaign on this machine, by name."""
    return sorted((campaign_folder(campaign) / "ledger").glob("*.jsonl"))


class Lines:
    """The events of a journal file in order, read as they are asked for, also while its process goes on writing.

    Once all have been asked for, `unreadable` and `missing` tell how many lines could not be read and which numbers of
    events are therefore not there; `mirrored` is the last event that is in the store.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.process = path.stem
        self.modified = path.stat().st_mtime
        self.mirrored = self.unreadable = self.last = 0
        self.missing: set[int] = set()

    def __iter__(self) -> Iterator[Event]:
        with self._path.open("rb") as file:
            for line in file:
                if line == b"\n":
                    continue
                try:
                    if line.startswith(b'{"mirrored"'):
                        self.mirrored = Mirrored.model_validate_json(line).mirrored
                        continue
                    event = Event.model_validate_json(line)
                except ValidationError:
                    self.unreadable += 1
                    continue
                self.missing |= set(range(self.last + 1, event.number))
                self.last = event.number
                yield event


def is_complete(path: Path) -> bool:
    """Whether a journal says that everything in it is in the store and no more will come."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 200))
        lines = file.read().splitlines()
    return bool(lines) and lines[-1].startswith(b'{"mirrored"') and b"true" in lines[-1]


def is_alive(path: Path) -> bool:
    """Whether the process that writes a journal still runs (on this machine, or one that shares its files)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)
