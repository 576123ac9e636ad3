"""A store in an S3-compatible service, through s3fs.

Endpoint, region and credentials come from the standard AWS environment (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …) and from
nowhere else; no message repeats them. A PUT is complete or absent by the protocol. A create-only PUT is conditional
(`If-None-Match: *`) where the service honours it, which is probed on opening; elsewhere the last of two writers at the
same moment wins, with a whole object.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from selfdev_core.errors import StoreError
from selfdev_core.store.filesystem import Objects, Stored, Tick
from selfdev_core.store.location import Bucket

PART = 32 * 2**20  # bytes in one request of a big transfer
_MOST_PARTS = 10_000
_THREADS = 4
_TIMEOUTS = {"connect_timeout": 10, "read_timeout": 60}  # seconds
_ABSENT = {"NoSuchKey", "404", "NotFound"}
_PASSING_CODES = {
    "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "RequestTimeout",
    "InternalError", "ServiceUnavailable", "OperationAborted", "ConditionalRequestConflict", "IncompleteBody",
    "BadDigest", "XAmzContentSHA256Mismatch",
}  # fmt: skip
_HINTS = {
    "NoSuchBucket": "the bucket does not exist; create it or mend `store:`",
    "InvalidAccessKeyId": "the service does not know AWS_ACCESS_KEY_ID; mend the credentials in the environment",
    "SignatureDoesNotMatch": "the service refuses the signature; mend AWS_SECRET_ACCESS_KEY in the environment",
    "ExpiredToken": "the credentials have expired; renew AWS_SESSION_TOKEN and run the same command again",
    "AccessDenied": "the credentials may not do this; allow reading, writing, listing and deleting below the prefix",
    "403": "the credentials may not do this; allow reading, writing, listing and deleting below the prefix",
}
_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID")


class S3Objects(Objects):
    """Raises StoreError, naming bucket and prefix, when it cannot be read and written."""

    def __init__(self, bucket: Bucket) -> None:
        from fsspec.implementations.dirfs import DirFileSystem
        from s3fs import S3FileSystem

        # One short round of the client's own retries: `patiently` above it waits longer and with a deadline.
        service = S3FileSystem(
            anon=False,
            use_listings_cache=False,
            skip_instance_cache=True,
            max_concurrency=1,
            config_kwargs=_TIMEOUTS | {"retries": {"total_max_attempts": 2, "mode": "standard"}},
        )
        service.retries = 1
        self.bucket = bucket
        self.conditional = False
        super().__init__(f"s3://{bucket.path}", DirFileSystem(bucket.path, service))

    def _prepare(self) -> None:
        probe = f".probe-{uuid.uuid4().hex}"
        self.write(probe, b"writable")
        if self.read(probe) != b"writable":
            raise StoreError(f"store {self.address}: does not give back what was written; use another service")
        self.conditional = True
        overwritten = self.create(probe, b"written over")
        self.conditional = self.conditional and not overwritten
        self.remove(probe)

    def read(self, name: str) -> bytes | None:
        def work() -> bytes | None:
            try:
                data: bytes = self.files.cat_file(name)
                return data
            except FileNotFoundError as error:
                if _code(error) in _ABSENT:
                    return None
                raise

        return self._do(f"could not read {name}", work)

    def write(self, name: str, data: bytes) -> None:
        self._do(f"could not write {name}", lambda: self.files.pipe_file(name, data, chunksize=2**40))

    def create(self, name: str, data: bytes) -> bool:
        def work() -> bool:
            try:
                self.files.pipe_file(name, data, chunksize=2**40, mode="create")
                return True
            except (FileExistsError, OSError) as error:
                if isinstance(error, FileExistsError) or _status(error) == 412:
                    return False
                if _code(error) == "NotImplemented":  # an older service
                    self.conditional = False
                    return False
                raise

        if self.conditional:
            # An attempt whose answer was lost may have stored it: then what is there is ours.
            return self._do(f"could not write {name}", work) or self.read(name) == data
        found = self.read(name)
        if found is None:
            self.write(name, data)
        return found is None or found == data

    def size(self, name: str) -> int | None:
        def work() -> int | None:
            try:
                return int(self._call("head_object", name)["ContentLength"])
            except Exception as error:
                if _code(error) in _ABSENT:
                    return None
                raise

        return self._do(f"could not look at {name}", work)

    def upload(self, name: str, source: Path, tick: Tick) -> None:
        size = source.stat().st_size
        if size <= PART:
            self.write(name, source.read_bytes())
            tick(size)
        else:
            self._upload_parts(name, source, size, tick)
        if (found := self.size(name)) != size:
            raise StoreError(f"store {self.address}: {name} has {found} bytes after {size} were sent; run it again")

    def _upload_parts(self, name: str, source: Path, size: int, tick: Tick) -> None:
        length = max(PART, -(-size // _MOST_PARTS))
        what = f"could not write {name}"
        upload = self._do(what, lambda: self._call("create_multipart_upload", name))["UploadId"]

        def send(number: int) -> dict[str, Any]:
            with source.open("rb") as file:
                file.seek((number - 1) * length)
                body = file.read(length)
            sent = self._do(
                what, lambda: self._call("upload_part", name, UploadId=upload, PartNumber=number, Body=body)
            )
            tick(len(body))
            return {"PartNumber": number, "ETag": sent["ETag"]}

        try:
            with ThreadPoolExecutor(_THREADS) as threads:
                parts = list(threads.map(send, range(1, -(-size // length) + 1)))

            def complete() -> None:
                try:
                    self._call("complete_multipart_upload", name, UploadId=upload, MultipartUpload={"Parts": parts})
                except Exception as error:
                    # NoSuchUpload after a lost answer: it was completed; the size is checked by `upload`.
                    if _code(error) != "NoSuchUpload":
                        raise

            self._do(what, complete)
        except BaseException:
            with suppress(Exception):
                self._call("abort_multipart_upload", name, UploadId=upload)
            raise

    def download(self, name: str, target: Path, size: int, tick: Tick) -> None:
        with target.open("wb") as file:
            file.truncate(size)
            descriptor = file.fileno()

            def fetch(start: int) -> None:
                length = min(PART, size - start)

                def part() -> bytes:
                    data: bytes = self.files.cat_file(name, start=start, end=start + length)
                    if len(data) != length:
                        raise ConnectionError(f"{len(data)} of {length} bytes arrived")
                    return data

                os.pwrite(descriptor, self._do(f"could not read {name}", part), start)
                tick(length)

            with ThreadPoolExecutor(_THREADS) as threads:
                list(threads.map(fetch, range(0, size, PART)))

    def list(self, folder: str = "") -> Iterator[Stored]:
        found = self._do("could not be listed", lambda: self.files.find(folder, detail=True))
        for name, info in sorted(found.items()):
            if name and not any(part.startswith(".") for part in name.split("/")) and info["type"] == "file":
                yield Stored(name, int(info["size"]), info["LastModified"].timestamp())

    def remove(self, name: str) -> None:
        self._do(f"could not remove {name}", lambda: self.files.rm_file(name))

    def drop_unfinished(self, before: float, really: bool) -> int:
        prefix = f"{self.bucket.prefix}/" if self.bucket.prefix else ""
        call = self.files.fs.call_s3

        def look() -> dict[str, Any]:
            try:
                found: dict[str, Any] = call("list_multipart_uploads", Bucket=self.bucket.name, Prefix=prefix)
                return found
            except Exception as error:
                if _status(error) in (405, 501):  # a service without this request
                    return {}
                raise

        answer = self._do("could not list uploads", look)
        old = [one for one in answer.get("Uploads") or [] if one["Initiated"].timestamp() < before]
        for one in old if really else []:
            with suppress(FileNotFoundError):
                call("abort_multipart_upload", Bucket=self.bucket.name, Key=one["Key"], UploadId=one["UploadId"])
        return len(old)

    def _call(self, method: str, name: str, **arguments: Any) -> Any:
        key = f"{self.bucket.prefix}/{name}".lstrip("/")
        return self.files.fs.call_s3(method, Bucket=self.bucket.name, Key=key, **arguments)

    def _passing(self, error: Exception) -> bool:
        from aiohttp import ClientError as TransferError
        from botocore.exceptions import ConnectionError as UnreachableError
        from botocore.exceptions import HTTPClientError, IncompleteReadError
        from botocore.parsers import ResponseParserError

        status = _status(error)
        if status:
            return (status >= 500 and status != 501) or status == 429 or _code(error) in _PASSING_CODES
        transfer = (
            HTTPClientError,
            UnreachableError,
            IncompleteReadError,
            ResponseParserError,
            TransferError,
            ConnectionError,
            TimeoutError,
        )
        return isinstance(error, transfer)

    def _mend(self, error: Exception) -> str:
        from botocore.exceptions import NoCredentialsError, PartialCredentialsError

        if isinstance(error, NoCredentialsError | PartialCredentialsError):
            return "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"
        hint = _HINTS.get(_code(error))
        told = _without_secrets(f"{type(error).__name__}: {error}")
        if hint is None and self._passing(error):
            hint = "the service does not answer as it should; check AWS_ENDPOINT_URL and the service"
        return f"{hint or 'the service refused'} ({told}); finished work is kept, run the same command again afterwards"


def _response(error: BaseException | None) -> dict[str, Any]:
    """What the service answered, if it did; s3fs translates errors and keeps the service's as the cause."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return response
        error = error.__cause__
    return {}


def _code(error: Exception) -> str:
    return str(_response(error).get("Error", {}).get("Code", ""))


def _status(error: Exception) -> int:
    return int(_response(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _without_secrets(text: str) -> str:
    for name in _SECRETS:
        if value := os.environ.get(name):
            text = text.replace(value, "***").replace(json.dumps(value)[1:-1], "***")
    return re.sub(r"//[^/@\s]+@", "//***@", text)
