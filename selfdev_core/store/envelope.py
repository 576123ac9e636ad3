"""How a record lies in the store: JSON with its kind, its key and the digest of its content.

A byte that differs from what was written is found: the text must be the one spelling of its content, and the content
must match its digest, its kind, its key and its type.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import ValidationError

from selfdev_core.errors import CorruptRecord
from selfdev_core.records import Record, digest_of

R = TypeVar("R", bound=Record)
FORMAT = 1


def pack(kind: str, key: str, record: Record) -> bytes:
    """The bytes of a record."""
    body = record.model_dump(mode="json")
    return _spelled({"format": FORMAT, "kind": kind, "key": key, "sha256": digest_of(body), "body": body})


def unpack_body(data: bytes, kind: str, key: str, where: str) -> Any:
    """The checked content as plain JSON data. Raises: CorruptRecord, its text beginning with `where`."""
    try:
        envelope = json.loads(data.decode("utf-8"))
        body = envelope["body"]
        if (envelope["format"], envelope["kind"], envelope["key"]) != (FORMAT, kind, key):
            raise CorruptRecord(f"{where}: is another record's content")
        if envelope["sha256"] != digest_of(body) or len(envelope) != 5 or _spelled(envelope) != data:
            raise CorruptRecord(f"{where}: does not match its digest")
    except CorruptRecord:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptRecord(f"{where}: is not a {kind} record: {str(error).splitlines()[0]}") from error
    return body


def unpack(data: bytes, kind: str, key: str, model: type[R], where: str) -> R:
    """The record in `data`. Raises: CorruptRecord when it is truncated, altered, foreign or of another type."""
    body = unpack_body(data, kind, key, where)
    try:
        return model.model_validate_json(json.dumps(body))
    except (ValueError, RecursionError, ValidationError) as error:
        raise CorruptRecord(f"{where}: is not a {kind} record: {str(error).splitlines()[0]}") from error


def _spelled(envelope: dict[str, Any]) -> bytes:
    return json.dumps(envelope).encode()
