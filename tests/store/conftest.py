"""A home of its own for every test, an S3 service on loopback, and a proxy before it that injects faults."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from selfdev_core.store.artifacts import ArtifactStore
from tests.store.faults import FaultyProxy

SECRET, KEY_ID = "s3cr3t/With+Signs", "AKIAIOSFODNN7TESTING"

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SELFDEV_HOME of the test: fetched checkpoints go below it."""
    monkeypatch.setenv("SELFDEV_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def service() -> Iterator[str]:
    """Endpoint URL of an S3 service on loopback."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The standard AWS environment, and nothing of this machine's own."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def proxy(service: str, credentials: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """What the store talks to; harmless until told otherwise."""
    with FaultyProxy(service) as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL", made.url)
        yield made


@pytest.fixture
def bucket(proxy: FaultyProxy) -> str:
    """A new bucket."""
    from s3fs import S3FileSystem

    name = f"bucket-{next(_numbers)}"
    S3FileSystem(skip_instance_cache=True).call_s3("create_bucket", Bucket=name)
    return name


@pytest.fixture(params=["folder", "s3"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], ArtifactStore]:
    """Opens a store that does not exist yet, each time it is called the same one: once in a folder, once on S3."""
    on_s3 = request.param == "s3"
    address = f"s3://{request.getfixturevalue('bucket')}/some/prefix" if on_s3 else str(tmp_path / "store")
    return lambda: ArtifactStore(address)
