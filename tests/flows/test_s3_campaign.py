"""A whole campaign on an S3 service that misbehaves ends as it does on a folder, and no secret gets anywhere."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.loop import essence
from tests.flows.conftest import TINY, command, environment_of
from tests.flows.test_campaign import result_of
from tests.store.faults import FaultyProxy

SECRET, KEY_ID = "s3cr3t-of-the-campaign-test", "AKIACAMPAIGNTESTKEY0"


@pytest.fixture
def proxy() -> Iterator[FaultyProxy]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with FaultyProxy(f"http://{host}:{port}") as made:
        yield made
    server.stop()


@pytest.mark.slow
def test_a_campaign_on_a_misbehaving_s3_ends_as_on_a_folder(
    finished: Path, proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    from s3fs import S3FileSystem

    S3FileSystem(skip_instance_cache=True).call_s3("create_bucket", Bucket="campaigns")
    rng = random.Random(2)
    faults = ("500", "503", "reset", "reset-after", "truncated", "slow")
    proxy.choose = lambda method, path: rng.choice(faults) if rng.random() < 0.05 else ""
    home, file = tmp_path / "home", tmp_path / "tiny.yaml"
    file.write_text(TINY.replace("name: tiny", "name: tiny\nstore: s3://campaigns/tiny"), encoding="utf-8")

    def selfdev(*arguments: str) -> str:
        done = subprocess.run(
            command(*arguments), env=environment_of(home), capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    try:
        output = selfdev("run", str(file))
        assert essence(result_of(home)) == essence(result_of(finished))
        seen = len(proxy.seen)
        assert sum(bool(fault) for _, _, fault in proxy.seen) > 10
        output += selfdev("run", str(file))
        again = [path for method, path, _ in proxy.seen[seen:] if method == "PUT" and "/scorecards/" in path]
        assert again == [] and essence(result_of(home)) == essence(result_of(finished))
        output += selfdev("store", "verify", "--store", "s3://campaigns/tiny")
    finally:
        selfdev("server", "stop")
    written = output.encode() + b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert SECRET.encode() not in written and KEY_ID.encode() not in written
    assert not (home / "store").exists()
    proxy.choose = lambda method, path: ""
    files = S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
    assert not any(SECRET.encode() in files.cat_file(name) for name in files.find("campaigns"))
