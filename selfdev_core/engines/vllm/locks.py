"""Who has a GPU or an engine of this machine: one process of this home at a time."""

from __future__ import annotations

import fcntl
import os

from selfdev_core.errors import EngineError
from selfdev_core.home import selfdev_home


def locks_of(gpus: list[str]) -> list[Lock]:
    """A lock for each of these GPUs, as CUDA names them; not yet taken."""
    return [Lock(f"gpu-{gpu}", f"GPU {gpu}") for gpu in gpus]


class Lock:
    """Held by one process of this home at a time; the kernel drops it when that process ends, however it ends."""

    def __init__(self, name: str, what: str) -> None:
        self._path, self._what = selfdev_home() / "vllm" / "locks" / name, what
        self._file = -1

    def take(self) -> None:
        if self._file >= 0:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            raise EngineError(
                f"{self._what} is in use by another campaign or engine of this machine; wait for its end, or use another"
            ) from None
        self._file = file

    def drop(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
