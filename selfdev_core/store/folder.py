"""A store in a local folder: temporary name, flush to disk, then one rename or link."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from selfdev_core.errors import CorruptRecord, StoreError
from selfdev_core.store.filesystem import MARKER, Objects, Stored, Tick
from selfdev_core.store.patience import patiently

# A network folder whose server is away; the disk below an unmounted one is not the store (see `_here`).
_PASSING = {errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EINTR}


class FolderObjects(Objects):
    """Raises StoreError, naming the folder, when it cannot be written."""

    def __init__(self, root: Path) -> None:
        from fsspec.implementations.dirfs import DirFileSystem
        from fsspec.implementations.local import LocalFileSystem

        self.root = root
        self._opened = False
        super().__init__(str(root), DirFileSystem(str(root), LocalFileSystem()))
        self._opened = True

    def _prepare(self) -> None:
        probe = self.root / f".probe-{uuid.uuid4().hex}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.write_text("writable")
            probe.unlink()
        except OSError as error:
            with suppress(OSError):
                probe.unlink(missing_ok=True)
            raise StoreError(
                f"store {self.root}: cannot be written ({error.strerror or error}); give a writable folder with "
                "`store:` in the campaign file or SELFDEV_HOME in the environment"
            ) from error

    def read(self, name: str) -> bytes | None:
        def work() -> bytes | None:
            try:
                data: bytes = self.files.cat_file(name)
                return data
            except (FileNotFoundError, NotADirectoryError):
                self._here()
                return None
            except OSError as error:
                if self._passing(error):
                    raise
                raise CorruptRecord(f"{self.root / name}: cannot be read: {error}") from error

        return self._do(f"could not read {name}", work)

    def write(self, name: str, data: bytes) -> None:
        self._publish(name, lambda path: _write_flushed(path, data), os.replace)

    def create(self, name: str, data: bytes) -> bool:
        try:
            self._publish(name, lambda path: _write_flushed(path, data), _link_new)
        except FileExistsError:
            return self.read(name) == data
        return True

    def size(self, name: str) -> int | None:
        def work() -> int | None:
            path = self.root / name
            try:
                found = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                self._here()
                return None
            return found.st_size if stat.S_ISREG(found.st_mode) else None

        return self._do(f"could not look at {name}", work)

    def upload(self, name: str, source: Path, tick: Tick) -> None:
        def copy(path: Path) -> None:
            shutil.copyfile(source, path)
            _flush(path)

        self._publish(name, copy, os.replace)
        tick(source.stat().st_size)

    def download(self, name: str, target: Path, size: int, tick: Tick) -> None:
        """A hard link where the two folders share a disk, so that a checkpoint takes its space once."""
        source = self.root / name

        def work() -> bool:
            target.unlink(missing_ok=True)
            try:
                try:
                    os.link(source, target)
                except FileNotFoundError:
                    raise
                except OSError:
                    shutil.copyfile(source, target)
            except FileNotFoundError:
                if not target.parent.is_dir():
                    raise
                self._here()
                return False
            return True

        try:
            found = patiently(work, self._passing, self.patience)
        except OSError as error:
            if self._passing(error):
                raise StoreError(f"store {self.address}: could not fetch {name}: {self._mend(error)}") from None
            raise  # of the folder that it goes to
        if not found:
            raise FileNotFoundError(errno.ENOENT, "no such object", name)
        tick(size)

    def list(self, folder: str = "") -> Iterator[Stored]:
        for path in sorted((self.root / folder).rglob("*")):
            name = path.relative_to(self.root)
            with suppress(FileNotFoundError):
                if path.is_file() and not any(part.startswith(".") for part in name.parts):
                    found = path.stat()
                    yield Stored(name.as_posix(), found.st_size, found.st_mtime)

    def remove(self, name: str) -> None:
        def work() -> None:
            path = self.root / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

        self._do(f"could not remove {name}", work)

    def drop_unfinished(self, before: float, really: bool) -> int:
        count = 0
        for path in self.root.rglob(".*"):
            with suppress(OSError):
                if path.is_file() and path.stat().st_mtime < before:
                    count += 1
                    if really:
                        path.unlink()
        return count

    def _publish(self, name: str, make: Callable[[Path], object], put: Callable[[Path, Path], None]) -> None:
        target = self.root / name

        def work() -> bool:
            temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
            try:
                self._here()
                try:
                    make(temporary)
                except FileNotFoundError:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    make(temporary)
                if target.is_dir():  # foreign: no object is a folder
                    shutil.rmtree(target)
                put(temporary, target)
                return True
            except FileExistsError:
                return False
            finally:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)

        if not self._do(f"could not write {target.name}", work):
            raise FileExistsError(name)

    def _here(self) -> None:
        """Raise while the store's marker is away: an unmounted folder must not be taken for an empty store."""
        if self._opened and not (self.root / MARKER).is_file():
            raise OSError(errno.ESTALE, f"{MARKER} is gone; the folder was removed or unmounted")

    def _passing(self, error: Exception) -> bool:
        return isinstance(error, OSError) and error.errno in _PASSING

    def _mend(self, error: Exception) -> str:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return f"{why}; finished work is kept, free some space or mend the folder and run the same command again"


def _write_flushed(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _link_new(temporary: Path, target: Path) -> None:
    """Like a rename, but raises FileExistsError when the target is there."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:  # a filesystem without hard links: here the last of two writers wins, with a whole object
        if target.exists():
            raise FileExistsError(str(target)) from None
        os.replace(temporary, target)
