"""Whether a model's files are still the ones whose digest was taken: size, time of change and inode, at the price of a look.

A campaign works for days on folders that belong to somebody else. What is stored under a model's digest must be that model's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from selfdev_core.errors import CheckpointError
from selfdev_core.merging.checkpoints import Checkpoint

# File name → (size, time of change in nanoseconds, inode); zeros for a file that was not there.
Stamps = dict[str, tuple[int, int, int]]
_NOTHING = (0, 0, 0)


def stamps_of(model: Checkpoint) -> Stamps:
    """Take them before the digest, so that what changes while it is made shows too."""
    return {path.name: _stamp(path) for path in model.identity}


def check_unchanged(folder: Path, stamps: Mapping[str, tuple[int, int, int]]) -> None:
    """Cheap, since it is done for every program: one listing says what is not there.

    Raises: CheckpointError naming the first file that is another one now.
    """
    try:
        there = set(os.listdir(folder))
    except OSError:
        there = set()
    for name, then in stamps.items():
        if (_stamp(os.path.join(folder, name)) if name in there else _NOTHING) != then:
            raise CheckpointError(
                f"{folder / name}: has changed while the campaign ran, and what is stored would be another model's; run the same "
                "command again: it takes the models as they are then (do not write to their folders while it runs)"
            )


def _stamp(path: str | Path) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return _NOTHING
    return (found.st_size, found.st_mtime_ns, found.st_ino)
