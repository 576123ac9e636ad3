"""Every write into a store, seen from outside as it happens: by inotify in a folder, by the proxy on S3.

So the suite counts by itself what was computed twice: a write under the name of a record that was whole already.
"""

from __future__ import annotations

import ctypes
import os
import re
import select
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.durability.place import FINISHED
from tests.store.faults import FaultyProxy

_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{32}")
_CREATE, _MOVED_TO, _IS_FOLDER = 0x100, 0x80, 0x40000000
_EVENT = struct.Struct("iIII")


class Writes:
    """Names of objects whose writing began, and of objects that are whole. Thread-safe."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.whole: dict[str, int] = {}  # name → how many names were whole before it
        self.begun: Counter[str] = Counter()
        self.repeated: list[str] = []

    def begins(self, name: str) -> None:
        with self.lock:
            self.begun[name] += 1
            if name in self.whole and name.startswith(tuple(f"records/{kind}/" for kind in FINISHED)):
                self.repeated.append(name)

    def ends(self, name: str) -> None:
        with self.lock:
            self.whole.setdefault(name, len(self.whole))
            self.begun[name] = self.begun[name] or 1  # the first file of a new folder may be whole before it is seen

    def count(self, kind: str) -> int:
        """Whole records of a kind."""
        with self.lock:
            return sum(name.startswith(f"records/{kind}/") for name in self.whole)

    @property
    def evaluations(self) -> int:
        """Scorecards whose writing began: evaluations that came to their end."""
        with self.lock:
            return sum(count for name, count in self.begun.items() if name.startswith("records/scorecards/"))


@contextmanager
def folder_writes(root: Path) -> Iterator[Writes]:
    """Linux only. The folder need not hold a store yet."""
    root.mkdir(parents=True, exist_ok=True)
    writes = Writes()
    eyes = _Inotify(root, writes)
    thread = threading.Thread(target=eyes.follow, daemon=True)
    thread.start()
    try:
        yield writes
    finally:
        eyes.stop()
        thread.join()
        eyes.close()


@contextmanager
def s3_writes(proxy: FaultyProxy, store: str) -> Iterator[Writes]:
    """`store`: s3://bucket/prefix. What the proxy was told to do to requests it goes on doing."""
    writes, root = Writes(), f"/{store.removeprefix('s3://')}/"
    choose, answered = proxy.choose, proxy.answered

    def begins(method: str, path: str) -> str:
        if method == "PUT" and path.startswith(root):
            writes.begins(path.removeprefix(root).split("?")[0])
        return proxy_choose(method, path)

    def ends(method: str, path: str, status: int) -> None:
        if method == "PUT" and path.startswith(root) and status == 200:
            writes.ends(path.removeprefix(root).split("?")[0])
        answered(method, path, status)

    proxy_choose = choose
    proxy.choose, proxy.answered = begins, ends
    try:
        yield writes
    finally:
        proxy.choose, proxy.answered = choose, answered


class _Inotify:
    """A folder and all below it. A store writes `.NAME.<32 hex>` and then links or renames it to `NAME`."""

    def __init__(self, root: Path, writes: Writes) -> None:
        self._libc: Any = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._root, self._writes = root, writes
        self._folders: dict[int, Path] = {}
        self._stop_read, self._stop_write = os.pipe()
        self._add(root)

    def stop(self) -> None:
        os.write(self._stop_write, b".")

    def close(self) -> None:
        for descriptor in (self._descriptor, self._stop_read, self._stop_write):
            os.close(descriptor)

    def follow(self) -> None:
        with select.epoll() as events:
            events.register(self._descriptor, select.EPOLLIN)
            events.register(self._stop_read, select.EPOLLIN)
            while True:
                ready = [descriptor for descriptor, _ in events.poll()]
                if self._descriptor in ready:
                    self._take(os.read(self._descriptor, 1 << 16))
                elif self._stop_read in ready:
                    return

    def _take(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, at)
            name = data[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0").decode()
            at += _EVENT.size + length
            if watch in self._folders:
                self._seen(self._folders[watch] / name, bool(mask & _IS_FOLDER))

    def _seen(self, path: Path, folder: bool) -> None:
        if folder:
            self._add(path)
        elif path.name.startswith("."):
            if found := _TEMPORARY.fullmatch(path.name):
                self._writes.begins(self._name(path.with_name(found[1])))
        else:
            self._writes.ends(self._name(path))

    def _add(self, folder: Path) -> None:
        with suppress(FileNotFoundError):
            watch = self._libc.inotify_add_watch(self._descriptor, os.fsencode(folder), _CREATE | _MOVED_TO)
            if watch < 0:
                raise OSError(ctypes.get_errno(), f"inotify_add_watch {folder}")
            if watch in self._folders:
                return
            self._folders[watch] = folder
            for path in folder.iterdir():  # what came before the watch was set
                if path.is_dir():
                    self._add(path)
                elif not path.name.startswith("."):
                    self._writes.ends(self._name(path))

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()
