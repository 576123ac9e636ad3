"""Errors written for the reader: what was wrong, where, and what to do next."""

from __future__ import annotations


class SelfdevError(Exception):
    """Anything the user can mend. The command line prints its text without a traceback and exits with 2."""


class ConfigError(SelfdevError):
    """A setting, or a file that a setting names, is wrong."""


class CheckpointError(SelfdevError):
    """A checkpoint is missing, truncated, not finite, or does not fit the others of its set."""


class StoreError(SelfdevError):
    """The artifact store cannot be read or written."""


class CorruptRecord(StoreError):
    """A stored object does not match its digest or its type. The caller recomputes it."""


class EngineError(SelfdevError):
    """A model process died or could not be started."""
