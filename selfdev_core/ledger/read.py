"""Reads the ledger of a campaign: journals on this machine, and segments in the store for what other machines did.

A journal of this machine holds all that its process told; its segments are looked at only when lines of it are damaged.
Events are added up as they are read, never held all at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from pathlib import PurePosixPath

from selfdev_core.errors import CorruptRecord
from selfdev_core.ledger.events import LEDGER, Event, LedgerSegment, segments_by, segments_of
from selfdev_core.ledger.files import Lines, is_alive, journals
from selfdev_core.ledger.totals import Ledger, ProcessEvents, add_up
from selfdev_core.store.artifacts import ArtifactStore


def read_ledger(campaign: str, store: ArtifactStore) -> Ledger:
    """What a campaign has taken so far, also while it runs. Empty when nothing was counted.

    What cannot be read is left out and counted as `unreadable`. Raises: StoreError when the store does not answer.
    """
    reader = _Reader(campaign, store)
    ledger = add_up(campaign, reader.processes())
    return ledger.model_copy(update={"unreadable": reader.unreadable})


class _Reader:
    def __init__(self, campaign: str, store: ArtifactStore) -> None:
        self._campaign, self._store = campaign, store
        self.unreadable = 0

    def processes(self) -> Iterator[ProcessEvents]:
        """Every process that worked on the campaign, once."""
        start = segments_of(self._campaign)
        names = (PurePosixPath(one.name).stem for one in self._store.objects.list(f"records/{LEDGER}/{start[:2]}"))
        ours = sorted(name for name in names if name.startswith(start))
        segments = {by: list(keys) for by, keys in groupby(ours, lambda key: key[24:40])}
        for path in journals(self._campaign):
            gone = not is_alive(path)  # asked first: what it writes until it ends is then read
            lines = Lines(path)
            keys = segments.pop(segments_by(lines.process), [])
            yield ProcessEvents(lines.process, self._journal(lines, keys), lines.modified, gone)
        for keys in segments.values():
            found = self._segments(keys)
            first = next(found, None)
            if first is not None:
                yield ProcessEvents(first.process, _in_order(chain([first], found)))

    def _journal(self, lines: Lines, keys: list[str]) -> Iterator[Event]:
        """The events of a journal; what cannot be read in it comes afterwards, if it is in the store."""
        yield from lines
        self.unreadable += lines.unreadable
        if lines.unreadable:
            for segment in self._segments(keys):
                yield from (event for event in segment.events if event.number in lines.missing)

    def _segments(self, keys: list[str]) -> Iterator[LedgerSegment]:
        for key in keys:
            try:
                segment = self._store.read(LEDGER, key, LedgerSegment)
            except CorruptRecord:
                self.unreadable += 1
                continue
            if segment is not None:
                yield segment


def _in_order(segments: Iterable[LedgerSegment]) -> Iterator[Event]:
    """The events of a process; one that stands in two segments (stored again after a kill) comes once."""
    last = 0
    for segment in segments:
        for event in segment.events:
            if event.number > last:
                last = event.number
                yield event
