"""Which records a campaign needs: written before the work that makes or uses them, read by `selfdev gc`."""

from __future__ import annotations

from typing import NamedTuple

from selfdev_core.records import Record

REFERENCES = "references"


class Reference(NamedTuple):
    """A record by kind and key."""

    kind: str
    key: str


class References(Record):
    """Records that a campaign needs. A campaign has many of these; together they are what `gc` keeps for it."""

    campaign: str
    records: tuple[Reference, ...]
