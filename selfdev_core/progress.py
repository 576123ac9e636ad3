"""What a running campaign tells whoever watches. The command line draws it; a deployment ignores it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    def stage(self, name: str, total: int) -> None:
        """A stage begins; `total` items are due in it (0: unknown)."""

    def advance(self, items: int = 1) -> None:
        """So many items of the current stage are done. Called from several threads."""

    def best(self, score: float) -> None:
        """Best search score so far, 0 to 1."""

    def note(self, text: str) -> None:
        """Something a person should see: a recomputed record, a skipped update."""


class Silent:
    """Nobody watches."""

    def stage(self, name: str, total: int) -> None: ...
    def advance(self, items: int = 1) -> None: ...
    def best(self, score: float) -> None: ...
    def note(self, text: str) -> None: ...
