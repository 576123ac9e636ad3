"""Named byte strings under one root, on fsspec: what a folder and an S3-compatible service have in common.

Every write is complete or absent for every reader, also with several writers. Names are relative, with slashes; a
part that starts with a dot is a write under way and no object. Trouble that may pass is waited out for `patience`
seconds; what remains is a StoreError that names the store and the mend.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from selfdev_core.errors import StoreError
from selfdev_core.store.patience import patiently

T = TypeVar("T")
Tick = Callable[[int], None]  # so many bytes more are through

PATIENCE = 300.0  # seconds that a running campaign waits for its store
OPENING_PATIENCE = 20.0  # seconds to wait on opening: a wrong address should be told soon
MARKER = "store.json"
_MARKER_TEXT = b'{"format": 1, "store": "selfdev"}\n'


class Stored(NamedTuple):
    """An object: its name, its size in bytes, when it was last written (seconds since 1970)."""

    name: str
    size: int
    modified: float


class Objects(ABC):
    """A root on a filesystem. `address` is what a person calls it; it holds no secret."""

    def __init__(self, address: str, files: Any) -> None:
        self.address = address
        self.files = files
        self.patience = OPENING_PATIENCE
        self._prepare()
        found = self.read(MARKER)
        if found is None:
            self.write(MARKER, _MARKER_TEXT)
        elif found != _MARKER_TEXT:
            raise StoreError(f"store {address}: {MARKER} is not this version's; use another store or a newer selfdev")
        self.patience = PATIENCE

    @abstractmethod
    def _prepare(self) -> None:
        """Find out what the store can do. Raises: StoreError when it cannot be used."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """The whole object, or None when there is none. Raises: StoreError; CorruptRecord when it cannot be read."""

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Store an object; an existing one is replaced."""

    @abstractmethod
    def create(self, name: str, data: bytes) -> bool:
        """Store an object unless there is one of this name; whether this call, or a writer of equal data, stored it."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Size in bytes, or None when there is no such object."""

    @abstractmethod
    def upload(self, name: str, source: Path, tick: Tick) -> None:
        """Store a file, however big; an existing object is replaced."""

    @abstractmethod
    def download(self, name: str, target: Path, size: int, tick: Tick) -> None:
        """Put an object of `size` bytes into a local file. Raises: FileNotFoundError when there is none."""

    @abstractmethod
    def list(self, folder: str = "") -> Iterator[Stored]:
        """All objects below a folder, in the order of their names."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove an object; nothing happens when there is none."""

    @abstractmethod
    def drop_unfinished(self, before: float, really: bool) -> int:
        """Remove what killed writers left before a time (seconds since 1970); returns how many there are."""

    @abstractmethod
    def _passing(self, error: Exception) -> bool:
        """Whether trouble may pass by itself."""

    @abstractmethod
    def _mend(self, error: Exception) -> str:
        """What happened and what to do about it, for the reader."""

    def _do(self, what: str, work: Callable[[], T]) -> T:
        """One operation, with patience. Raises: StoreError naming the store, the object and the mend."""
        try:
            return patiently(work, self._passing, self.patience)
        except StoreError:
            raise
        except Exception as error:
            # The cause is told, not chained: a client library's exception may carry a signed request.
            raise StoreError(f"store {self.address}: {what}: {self._mend(error)}") from None


def open_objects(address: str) -> Objects:
    """Open a store: a folder, or `s3://bucket/prefix` with endpoint and credentials from the AWS environment.

    Raises: StoreError when it cannot be read and written.
    """
    from selfdev_core.store.folder import FolderObjects
    from selfdev_core.store.location import is_url, parse_bucket

    if not is_url(address):
        return FolderObjects(Path(address))
    try:
        bucket = parse_bucket(address)
    except ValueError as error:
        raise StoreError(f"store: {error}") from None
    from selfdev_core.store.s3 import S3Objects

    return S3Objects(bucket)
