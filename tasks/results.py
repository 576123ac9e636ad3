"""Prefect's results in the artifact store: the same digests, the same patience, the same place as everything else.

What is stored is the manifest as plain data. Prefect's own metadata, which could name a serializer that runs code, is made
anew when a result is read; nothing that lies in the store chooses how it is read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

from prefect.exceptions import ObjectAlreadyExists
from prefect.filesystems import WritableFileSystem
from prefect.results import ResultRecord, ResultRecordMetadata  # type: ignore[attr-defined]
from prefect.serializers import JSONSerializer
from prefect.settings import PREFECT_API_URL
from prefect.utilities.asyncutils import run_sync_in_worker_thread
from pydantic import Field, PrivateAttr

from selfdev_core.errors import CorruptRecord, StoreError
from selfdev_core.kinds import TASK_RESULTS, TaskResult
from selfdev_core.records import digest_of
from selfdev_core.store.artifacts import ArtifactStore

_TRIES = 5
_RAISED = "__exc_type__"  # Prefect's mark on a serialised exception


class StoreResults(WritableFileSystem):
    """Result storage of campaigns. Holds the store's address and nothing secret."""

    _block_type_name = "selfdev store results"
    _block_type_slug = "selfdev-store-results"
    _description = "Task results of Self-Developing campaigns, in their artifact store."

    store: str = Field(description="A folder, or s3://bucket/prefix; endpoint and credentials are the environment's.")
    _tell: Callable[[str], None] | None = PrivateAttr(default=None)

    def telling(self, tell: Callable[[str], None]) -> StoreResults:
        """This block; damaged results are reported to `tell`."""
        self._tell = tell
        return self

    def read_path(self, path: str, _sync: bool | None = None) -> bytes:  # type: ignore[override]
        """A stored result in Prefect's form. Raises: ValueError when there is none, or none that is sound."""
        try:
            found = _opened(self.store).read(TASK_RESULTS, digest_of(path), TaskResult)
        except CorruptRecord as fault:
            if self._tell is not None:
                self._tell(f"{fault}; it is computed again")
            raise ValueError(f"result {path} is damaged") from fault
        if found is None:
            raise ValueError(f"there is no result {path}")
        metadata = ResultRecordMetadata(
            storage_key=path,
            serializer=JSONSerializer(object_decoder=None),
            storage_block_id=self._block_document_id,
        )
        return ResultRecord(metadata=metadata, result=found.manifest).serialize()

    def write_path(self, path: str, content: bytes, _sync: bool | None = None) -> None:  # type: ignore[override]
        """Store a result that Prefect has serialised as JSON. Raises: StoreError when it cannot be written.

        What a task run has raised is no result: its state tells it, and nothing would ever read it here.
        """
        manifest: dict[str, Any] = json.loads(json.loads(content)["result"])
        if _RAISED in manifest:
            return
        _opened(self.store).write(TASK_RESULTS, digest_of(path), TaskResult(manifest=manifest))

    async def aread_path(self, path: str) -> bytes:
        return await run_sync_in_worker_thread(self.read_path, path)

    async def awrite_path(self, path: str, content: bytes) -> None:
        await run_sync_in_worker_thread(self.write_path, path, content)


def result_storage(store: str) -> StoreResults:
    """The result storage of a store's campaigns, known to the server under a name made from the store's address."""
    return _known_to_server(store, str(PREFECT_API_URL.value()))


@cache
def _known_to_server(store: str, _api: str) -> StoreResults:
    name = f"selfdev-{digest_of(store)[:16]}"
    for attempt in range(_TRIES):
        try:
            found = StoreResults.load(name, _sync=True)  # type: ignore[call-arg]
            if isinstance(found, StoreResults) and found.store == store:
                return found
        except ValueError:
            pass  # not known yet
        with suppress(ObjectAlreadyExists):  # another campaign was first with the block's type
            made = StoreResults(store=store)
            made.save(name, overwrite=True, _sync=True)  # type: ignore[call-arg]
            return made
        time.sleep(0.2 * 2**attempt)
    raise StoreError(f"store {store}: the Prefect server does not take its result storage {name}; run it again")


@cache
def _opened(store: str) -> ArtifactStore:
    return ArtifactStore(store)
