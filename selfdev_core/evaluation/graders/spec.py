"""Which grader, exactly: part of every evaluation's key. What a grader says of one answer."""

from __future__ import annotations

from selfdev_core.records import OutcomeKind, Record

Marks = dict[str, OutcomeKind]
"""Outcome by way of reading the answer (`strict`, `flexible`); graders with one way have the one key ``""``."""


class GraderSpec(Record):
    """A grader by name and version, the way of reading that makes the score, and a user's own grader as source text."""

    name: str
    version: str
    extraction: str = ""
    source: str = ""
