"""A store on S3 behind a proxy that injects faults: the right result or a clear error, never a wrong or half object."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from selfdev_core.errors import StoreError
from selfdev_core.records import Cost, digest_of
from selfdev_core.store import patience, s3
from selfdev_core.store.artifacts import ArtifactStore
from selfdev_core.store.verify import verify
from tests.store.conftest import KEY_ID, SECRET
from tests.store.faults import FAULTS, FaultyProxy

KEYS = [digest_of(number) for number in range(40)]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits and time-outs, so that many faults fit into a test."""
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(patience, "LONGEST_WAIT", 0.2)
    monkeypatch.setattr(s3, "_TIMEOUTS", {"connect_timeout": 1, "read_timeout": 0.6})


@pytest.fixture
def store(proxy: FaultyProxy, bucket: str, hurried: None) -> Iterator[ArtifactStore]:
    proxy.stall = 0.8
    made = ArtifactStore(f"s3://{bucket}/runs")
    made.objects.patience = 30.0
    yield made
    proxy.choose = lambda method, path: ""
    assert verify(made, {"costs": Cost}).damaged == ()


@pytest.mark.parametrize(
    "fault",
    [
        fault if fault in ("503", "reset-after", "shortened") else pytest.param(fault, marks=pytest.mark.slow)
        for fault in FAULTS
    ],
)
def test_one_fault_per_operation_changes_nothing(fault: str, store: ArtifactStore, proxy: FaultyProxy) -> None:
    store.write("costs", KEYS[1], Cost(tokens=1))
    waiting = {"now": True}

    def once(method: str, path: str) -> str:
        if waiting["now"]:
            waiting["now"] = False
            return fault
        return ""

    proxy.choose = once
    operations = [
        lambda: store.write("costs", KEYS[0], Cost(tokens=5)),
        lambda: store.read("costs", KEYS[0], Cost),
        lambda: store.read("costs", KEYS[2], Cost),
        lambda: store.add("costs", KEYS[1], Cost(tokens=2)),
        lambda: store.add("costs", KEYS[3], Cost(tokens=3)),
        lambda: store.objects.size("store.json"),
        lambda: store.objects.remove("records/none"),
        lambda: len(list(store.objects.list())),
    ]
    results = []
    for operation in operations:
        waiting["now"] = True
        results.append(operation())
    assert results == [None, Cost(tokens=5), None, Cost(tokens=1), Cost(tokens=3), 34, None, 4]
    assert sum(seen[2] == fault for seen in proxy.seen) == len(operations)


def test_a_storm_of_faults_gives_right_results(
    store: ArtifactStore, proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PART", 5 * 2**20)
    rng, lock = random.Random(5), threading.Lock()

    def storm(method: str, path: str) -> str:
        with lock:
            return rng.choice([fault for fault in FAULTS if fault != "timeout"]) if rng.random() < 0.35 else ""

    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(random.Random(0).randbytes(11 * 2**20))
    proxy.choose = storm

    def work(numbers: range) -> None:
        for number in numbers:
            assert store.add("costs", KEYS[number], Cost(tokens=number)) == Cost(tokens=number)
            assert store.read("costs", KEYS[number], Cost) == Cost(tokens=number)

    threads = [threading.Thread(target=work, args=(range(at, at + 10),)) for at in (0, 5, 20)]
    for thread in threads:
        thread.start()
    store.add_checkpoint(folder, KEYS[0])
    fetched = store.checkpoint_folder(KEYS[0])
    for thread in threads:
        thread.join()
    assert fetched is not None
    assert (fetched / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert sum(bool(seen[2]) for seen in proxy.seen) > 30
    proxy.choose = lambda method, path: ""
    assert [store.read("costs", KEYS[n], Cost) for n in (*range(15), *range(20, 30))] == [
        Cost(tokens=n) for n in (*range(15), *range(20, 30))
    ]


@pytest.mark.parametrize(
    "fault",
    [
        fault if fault in ("503", "reset", "truncated") else pytest.param(fault, marks=pytest.mark.slow)
        for fault in FAULTS
        if fault not in ("slow", "shortened")
    ],
)
def test_a_lasting_fault_is_a_clear_error(fault: str, store: ArtifactStore, proxy: FaultyProxy, bucket: str) -> None:
    store.write("costs", KEYS[0], Cost(tokens=1))
    store.objects.patience = 0.2
    proxy.choose = lambda method, path: fault
    if fault != "truncated":  # an answer to a PUT has no body to cut
        with pytest.raises(StoreError, match=f"store s3://{bucket}/runs: could not write .*run the same command again"):
            store.write("costs", KEYS[0], Cost(tokens=2))
    with pytest.raises(StoreError, match=f"store s3://{bucket}/runs: could not read .*AWS_ENDPOINT_URL"):
        store.read("costs", KEYS[0], Cost)
    proxy.choose = lambda method, path: ""
    assert store.read("costs", KEYS[0], Cost) in (Cost(tokens=1), Cost(tokens=2))


def test_a_store_that_goes_and_comes_back_is_waited_for(store: ArtifactStore, proxy: FaultyProxy) -> None:
    proxy.go_away()
    back = threading.Timer(3.0, proxy.come_back)
    back.start()
    began = time.monotonic()
    store.write("costs", KEYS[0], Cost(tokens=1))
    assert time.monotonic() - began > 2.5
    assert store.read("costs", KEYS[0], Cost) == Cost(tokens=1)
    back.join()


@pytest.mark.slow
def test_a_store_that_is_gone_for_a_minute_is_waited_for(proxy: FaultyProxy, bucket: str) -> None:
    store = ArtifactStore(f"s3://{bucket}")
    proxy.go_away()
    back = threading.Timer(60.0, proxy.come_back)
    back.start()
    store.write("costs", KEYS[0], Cost(tokens=1))
    assert store.read("costs", KEYS[0], Cost) == Cost(tokens=1)
    back.join()


def test_an_interrupted_upload_leaves_no_object(
    store: ArtifactStore, proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PART", 5 * 2**20)
    source = tmp_path / "big"
    source.write_bytes(bytes(11 * 2**20))
    store.objects.patience = 0.2
    proxy.choose = lambda method, path: "500" if "partNumber=2" in path or method == "DELETE" else ""
    with pytest.raises(StoreError, match="could not write blobs/big"):
        store.objects.upload("blobs/big", source, lambda count: None)
    proxy.choose = lambda method, path: ""
    assert store.objects.size("blobs/big") is None
    later = time.time() + 60
    assert store.objects.drop_unfinished(later, really=False) == 1
    assert store.objects.drop_unfinished(0.0, really=True) == 0
    assert store.objects.drop_unfinished(later, really=True) == 1
    assert store.objects.drop_unfinished(later, really=False) == 0


def test_a_service_that_says_it_knows_no_conditional_writes_is_used_without_waiting(
    proxy: FaultyProxy, bucket: str
) -> None:
    proxy.older = True
    store = ArtifactStore(f"s3://{bucket}")
    asked = sum(method == "PUT" and ".probe" in path for method, path, _ in proxy.seen)
    assert asked <= 4  # it is not taken for trouble that may pass
    assert isinstance(store.objects, s3.S3Objects) and not store.objects.conditional
    assert store.add("costs", KEYS[0], Cost(tokens=1)) == store.add("costs", KEYS[0], Cost(tokens=2)) == Cost(tokens=1)


def test_a_service_without_conditional_writes_is_found_out_and_used(
    proxy: FaultyProxy, bucket: str, hurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.dirfs import DirFileSystem

    pipe = DirFileSystem.pipe_file
    monkeypatch.setattr(
        DirFileSystem, "pipe_file", lambda self, path, data, mode="", **rest: pipe(self, path, data, **rest)
    )
    store = ArtifactStore(f"s3://{bucket}")
    assert isinstance(store.objects, s3.S3Objects) and not store.objects.conditional
    assert store.add("costs", KEYS[0], Cost(tokens=1)) == store.add("costs", KEYS[0], Cost(tokens=2)) == Cost(tokens=1)


@pytest.mark.parametrize(
    ("code", "mend"),
    [
        ("NoSuchBucket", "create it"),
        ("InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        ("ExpiredToken", "AWS_SESSION_TOKEN"),
        ("AccessDenied", "allow reading"),
    ],
)
def test_a_refusal_says_what_to_mend_and_repeats_no_secret(
    code: str, mend: str, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.exceptions import ClientError
    from s3fs.errors import translate_boto_error

    def refuse(*_: object, **__: object) -> None:
        told = f"refused {KEY_ID} {SECRET} at http://user:word@host/"
        answer = {"Error": {"Code": code, "Message": told}, "ResponseMetadata": {"HTTPStatusCode": 403}}
        raise translate_boto_error(ClientError(answer, "PutObject"))

    with monkeypatch.context() as patch:
        patch.setattr(store.objects.files, "pipe_file", refuse)
        with pytest.raises(StoreError, match=mend) as refusal:
            store.write("costs", KEYS[0], Cost())
    assert not any(secret in str(refusal.value) for secret in (KEY_ID, SECRET, "word"))
    assert refusal.value.__cause__ is None


def test_missing_credentials_are_named(
    bucket: str, proxy: FaultyProxy, hurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"):
        ArtifactStore(f"s3://{bucket}")


def test_a_bucket_that_is_not_there_is_named_at_once(proxy: FaultyProxy, hurried: None) -> None:
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"s3://no-such-bucket: .*the bucket does not exist"):
        ArtifactStore("s3://no-such-bucket")
    assert time.monotonic() - began < 5
