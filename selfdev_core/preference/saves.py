"""Where a training is saved while it runs, so that a killed one goes on: a folder of this machine's cache, by the job's key.

It holds optimiser states, which are no result: it goes when the training is over, and with `selfdev gc` when it never ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from selfdev_core.store.artifacts import checkpoint_cache


@contextmanager
def saves_of(key: str) -> Iterator[str]:
    """The folder for the training under `key`, this process's until the block ends; removed when it ends well.

    Empty when another process has it: that one saves, this one trains from the beginning.
    """
    folder = checkpoint_cache() / f"training-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        mine = True
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            mine = False
        except OSError:  # a filesystem without locks
            pass
        yield str(folder) if mine else ""
        if mine:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def is_over(save: Path) -> bool:
    """Whether a whole save (`last_save`) was made after the last step of its training."""
    state = json.loads((save / "trainer_state.json").read_text(encoding="utf-8"))
    return bool(state["global_step"] >= state["max_steps"])


def last_save(folder: Path) -> str | None:
    """The last whole save of a training, or None; what a kill left half-written is removed.

    A save's `trainer_state.json` is written last.
    """
    found: list[tuple[int, Path]] = []
    for path in folder.glob("checkpoint-*"):
        try:
            found.append((int(json.loads((path / "trainer_state.json").read_text())["global_step"]), path))
        except (OSError, ValueError, KeyError, TypeError):
            with suppress(OSError):
                shutil.rmtree(path)
    return str(max(found)[1]) if found else None
