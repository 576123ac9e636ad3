"""Scratch folders below TMPDIR, or beside what comes to be in them. A folder is locked by the process that uses it; the kernel
drops the lock when the process ends, however it ends, and the next one that makes such a folder there removes those that nobody
holds.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from selfdev_core.errors import SelfdevError, StoreError

_PREFIX = "selfdev-scratch-"


class Scratch:
    """A new folder at `path`, this process's until `close`, or a context manager. With `out` it lies hidden beside that: what is
    made in it takes that name in one step, by a rename.
    """

    def __init__(self, out: Path | None = None) -> None:
        place = Path(tempfile.gettempdir()) if out is None else out.parent
        prefix = _PREFIX if out is None else f".{out.name}.partial-"
        place.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(place, prefix)
        made = Path(tempfile.mkdtemp(prefix=f".{prefix}", dir=place))
        self._lock = os.open(made, os.O_RDONLY)
        with suppress(OSError):  # a filesystem without locks: then nobody can take the folder for abandoned either
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.path = made.rename(made.with_name(made.name.removeprefix(".")))  # seen by others only when it is locked

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


@contextmanager
def told_when_full() -> Iterator[None]:
    """Work that writes below TMPDIR. Raises: StoreError saying so when there is no space left, whoever found that out
    (safetensors and other libraries have errors of their own for it)."""
    try:
        yield
    except SelfdevError:
        raise
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or os.strerror(errno.ENOSPC) in str(error):
            raise StoreError(
                f"{tempfile.gettempdir()}: no space left ({error}); finished work is kept, free some space for TMPDIR and run "
                "the same command again"
            ) from error
        raise


def _remove_abandoned(place: Path, prefix: str) -> None:
    """Remove the scratch folders of this user whose process is gone."""
    for folder in place.glob(f"{glob.escape(prefix)}*"):
        with suppress(OSError):  # gone meanwhile, another user's, in use
            lock = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock).st_uid == os.geteuid():
                    shutil.rmtree(folder)
            finally:
                os.close(lock)
