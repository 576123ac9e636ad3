"""Where a store is: a folder, or `s3://bucket/prefix`. Never a key or a password: those are the environment's."""

from __future__ import annotations

import re
from typing import NamedTuple

_S3 = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:/[A-Za-z0-9_=-][A-Za-z0-9._=-]*)*)/?")


class Bucket(NamedTuple):
    """A place in an S3-compatible service. `prefix` has no slash at its ends and may be empty."""

    name: str
    prefix: str

    @property
    def path(self) -> str:
        return f"{self.name}/{self.prefix}".rstrip("/")


def is_url(address: str) -> bool:
    """Whether an address is meant as a URL rather than a folder."""
    return "://" in address or address.startswith("s3:")


def parse_bucket(address: str) -> Bucket:
    """Raises: ValueError saying what is wrong, without repeating the address, which may hold a secret."""
    if "@" in address or "?" in address:
        raise ValueError(
            "credentials do not belong in a store's address; give s3://bucket/prefix and set AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL in the environment"
        )
    found = _S3.fullmatch(address)
    if found is None:
        raise ValueError("a store is a folder or s3://bucket/prefix (letters, digits, . _ - = in the prefix)")
    return Bucket(found[1], found[2].strip("/"))


def check_url(address: str) -> str:
    """The address in its one spelling. Raises: ValueError as `parse_bucket`."""
    return f"s3://{parse_bucket(address).path}"
