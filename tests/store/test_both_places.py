"""What holds for a store in a folder and on S3 alike."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from selfdev_core.errors import CorruptRecord, StoreError
from selfdev_core.records import Cost, digest_of
from selfdev_core.store import s3
from selfdev_core.store.artifacts import ArtifactStore, record_name
from selfdev_core.store.checkpoints import CheckpointManifest, StoredFile, blob_name, file_sha256
from selfdev_core.store.filesystem import MARKER

Open = Callable[[], ArtifactStore]
KEY, OTHER = digest_of("one"), digest_of("other")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "factory"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 50)
    (folder / "empty.txt").write_text("")
    return folder


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_records_come_back_in_another_opening(open_store: Open) -> None:
    store = open_store()
    store.write("costs", KEY, Cost(tokens=7))
    assert store.read("costs", KEY, Cost) == open_store().read("costs", KEY, Cost) == Cost(tokens=7)
    assert store.read("costs", OTHER, Cost) is None
    store.write("costs", KEY, Cost(tokens=8))
    assert store.read("costs", KEY, Cost) == Cost(tokens=8)


def test_the_first_record_of_a_key_counts_for_every_writer(open_store: Open) -> None:
    stores = [open_store() for _ in range(3)]
    start, counted = threading.Barrier(6), list[Cost]()

    def write(number: int) -> None:
        start.wait()
        counted.append(stores[number % 3].add("costs", KEY, Cost(tokens=number)))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counted) == 6 and len(set(counted)) == 1
    assert stores[0].read("costs", KEY, Cost) == counted[0]


def test_adding_replaces_a_damaged_record(open_store: Open) -> None:
    store = open_store()
    store.objects.write(record_name("costs", KEY), b"junk")
    assert store.add("costs", KEY, Cost(tokens=1)) == Cost(tokens=1)
    assert store.read("costs", KEY, Cost) == Cost(tokens=1)


def test_a_checkpoint_comes_back_whole_and_is_kept_once(open_store: Open, checkpoint: Path, home: Path) -> None:
    store, told = open_store(), list[tuple[int, int]]()
    store.add_checkpoint(checkpoint, KEY, lambda done, total: told.append((done, total)))
    store.add_checkpoint(checkpoint, OTHER)
    assert told[-1] == (12_802, 12_802) and [done for done, _ in told] == sorted(done for done, _ in told)
    folder = open_store().checkpoint_folder(KEY)
    assert folder is not None and folder.is_relative_to(home) and _content(folder) == _content(checkpoint)
    assert sum(one.name.startswith("blobs/") for one in store.objects.list()) == 3
    assert [path.name for path in folder.parent.iterdir()] == [KEY]


def test_a_checkpoint_is_there_whole_or_not_at_all(open_store: Open, checkpoint: Path) -> None:
    store = open_store()
    sent = list[str]()
    upload = store.objects.upload

    def stop_at_the_third(name: str, *rest: object) -> None:
        sent.append(name)
        if len(sent) == 3:
            raise KeyboardInterrupt
        upload(name, *rest)  # type: ignore[arg-type]

    store.objects.upload = stop_at_the_third  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        store.add_checkpoint(checkpoint, KEY)
    again = open_store()
    assert again.checkpoint_folder(KEY) is None
    again.add_checkpoint(checkpoint, KEY)
    assert again.checkpoint_folder(KEY) is not None


def test_a_fetched_checkpoint_that_was_altered_is_fetched_again(open_store: Open, checkpoint: Path) -> None:
    store = open_store()
    store.add_checkpoint(checkpoint, KEY)
    folder = store.checkpoint_folder(KEY)
    assert folder is not None
    (folder / "model.safetensors").unlink()  # not in place: in a folder store the file may be the blob itself
    (folder / "model.safetensors").write_bytes(b"altered")
    (folder / "more.json").write_text("{}")
    folder = open_store().checkpoint_folder(KEY)
    assert folder is not None and _content(folder) == _content(checkpoint)


def test_a_damaged_blob_is_found_dropped_and_made_again(open_store: Open, checkpoint: Path) -> None:
    store = open_store()
    store.add_checkpoint(checkpoint, KEY)
    weights = blob_name(file_sha256(checkpoint / "model.safetensors"))
    store.objects.write(weights, b"\1" * 12_800)
    with pytest.raises(CorruptRecord, match=r"model\.safetensors\) does not match its digest"):
        store.checkpoint_folder(KEY)
    store.drop_checkpoint(KEY)
    assert store.checkpoint_folder(KEY) is None and store.objects.size(weights) is None
    assert store.objects.size(blob_name(file_sha256(checkpoint / "config.json"))) == 2
    store.add_checkpoint(checkpoint, KEY)
    folder = store.checkpoint_folder(KEY)
    assert folder is not None and _content(folder) == _content(checkpoint)


def test_a_checkpoint_without_a_part_is_corrupt(open_store: Open, checkpoint: Path) -> None:
    store = open_store()
    store.add_checkpoint(checkpoint, KEY)
    store.objects.remove(blob_name(file_sha256(checkpoint / "config.json")))
    with pytest.raises(CorruptRecord, match=r"config\.json\) is missing"):
        store.checkpoint_folder(KEY)


@pytest.mark.parametrize("name", ["../config.json", "/etc/passwd", ".hidden.json", "a/b.json", "weights.bin", "x.pkl"])
def test_a_manifest_names_plain_files_only(name: str) -> None:
    with pytest.raises(ValueError, match=r"name|only"):
        CheckpointManifest(files=(StoredFile(name=name, size=1, sha256=KEY),))


def test_pickled_weights_are_not_stored(open_store: Open, checkpoint: Path) -> None:
    (checkpoint / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(StoreError, match=r"pytorch_model\.bin: only \.safetensors"):
        open_store().add_checkpoint(checkpoint, KEY)


def test_a_big_file_goes_up_and_down_in_parts(bucket: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PART", 5 * 2**20)
    (checkpoint / "model.safetensors").write_bytes(bytes(range(251)) * 50_000)
    store = ArtifactStore(f"s3://{bucket}")
    told = list[int]()
    store.add_checkpoint(checkpoint, KEY, lambda done, _: told.append(done))
    assert len(told) == 5  # two small files and three parts
    folder = store.checkpoint_folder(KEY)
    assert folder is not None and _content(folder) == _content(checkpoint)


def test_a_store_of_another_version_is_refused(open_store: Open) -> None:
    open_store().objects.write(MARKER, b'{"format": 2}')
    with pytest.raises(StoreError, match="newer selfdev"):
        open_store()


def test_a_folder_that_is_unmounted_for_a_while_is_waited_for(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store")
    store.write("costs", KEY, Cost(tokens=1))
    (tmp_path / "store").rename(tmp_path / "away")
    (tmp_path / "store").mkdir()

    def mount() -> None:
        (tmp_path / "store").rmdir()
        (tmp_path / "away").rename(tmp_path / "store")

    back = threading.Timer(1.0, mount)
    back.start()
    assert store.read("costs", KEY, Cost) == Cost(tokens=1)
    store.write("costs", OTHER, Cost(tokens=2))
    back.join()
    (tmp_path / "store").rename(tmp_path / "gone")
    store.objects.patience = 0.5
    with pytest.raises(StoreError, match="removed or unmounted"):
        store.write("costs", OTHER, Cost(tokens=2))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("call", ["size", "download"])
def test_a_checkpoint_in_a_folder_that_is_unmounted_for_a_while_is_waited_for(tmp_path: Path, call: str) -> None:
    store, away = ArtifactStore(tmp_path / "store"), tmp_path / "away"
    store.objects.write("blobs/x", b"12345")
    (tmp_path / "store").rename(away)
    (tmp_path / "store").mkdir()

    def mount() -> None:
        (tmp_path / "store").rmdir()
        away.rename(tmp_path / "store")

    def ask() -> object:
        if call == "size":
            return store.objects.size("blobs/x")
        store.objects.download("blobs/x", tmp_path / "copy", 5, lambda _: None)
        return len((tmp_path / "copy").read_bytes())

    back = threading.Timer(1.0, mount)
    back.start()
    assert ask() == 5
    back.join()
    assert store.objects.size("blobs/none") is None
    with pytest.raises(FileNotFoundError):
        store.objects.download("blobs/none", tmp_path / "copy", 5, lambda _: None)
    (tmp_path / "store").rename(away)
    store.objects.patience = 0.5
    with pytest.raises(StoreError, match="removed or unmounted"):
        ask()
