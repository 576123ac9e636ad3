"""The artifact store: what comes out is what went in, or nothing, or an error that says what to do."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from selfdev_core.errors import CorruptRecord, StoreError
from selfdev_core.records import Cost, Record, Scorecard, Verdict, digest_of
from selfdev_core.store.artifacts import ArtifactStore
from selfdev_core.store.verify import verify

KEY, OTHER = digest_of("one"), digest_of("other")
CARD = Scorecard(
    subject="a-0123456789abcdef",
    split="search",
    questions_sha256=digest_of("questions"),
    outcomes=("right", "wrong", "unparsable", "right"),
    tokens=321,
    seconds=1.25,
)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    made = ArtifactStore(tmp_path / "store")
    made.write("scorecards", KEY, CARD)
    return made


def _root(store: ArtifactStore) -> Path:
    return Path(store.address)


def _files(store: ArtifactStore) -> list[Path]:
    """Everything but the store's own marker."""
    return sorted(path for path in _root(store).rglob("*") if path.is_file() and path.name != "store.json")


def test_a_record_comes_back_as_it_went_in(store: ArtifactStore) -> None:
    assert store.read("scorecards", KEY, Scorecard) == CARD
    assert ArtifactStore(store.address).read("scorecards", KEY, Scorecard) == CARD


@pytest.mark.parametrize("text", ["", "naïve — ✓ 𝄞", "\0\x1f\u2028", "x" * 100_000])
def test_any_text_comes_back(store: ArtifactStore, text: str) -> None:
    verdict = Verdict(algorithm_id="a", reason="exception", detail=text)
    store.write("verdicts", OTHER, verdict)
    assert store.read("verdicts", OTHER, Verdict) == verdict


def test_what_is_not_there_is_none(store: ArtifactStore) -> None:
    assert store.read("scorecards", OTHER, Scorecard) is None
    assert store.read("verdicts", KEY, Verdict) is None
    assert store.checkpoint_folder(KEY) is None


def test_writing_again_replaces(store: ArtifactStore) -> None:
    again = CARD.model_copy(update={"tokens": 1})
    store.write("scorecards", KEY, again)
    assert store.read("scorecards", KEY, Scorecard) == again
    assert len(_files(store)) == 1


def test_no_damage_is_ever_read_as_a_record(store: ArtifactStore) -> None:
    (path,) = _files(store)
    whole = path.read_bytes()
    rng = random.Random(0)
    damages: list[bytes] = [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"0",
        b'"x"',
        b"\xff" * 50,
        b"[" * 100_000,
        whole + whole,
        whole[:-1],
    ]
    for _ in range(60):  # one flipped bit
        at = rng.randrange(len(whole))
        damages.append(whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1 :])
    damages += [whole[: rng.randrange(len(whole))] for _ in range(30)]
    for _ in range(30):  # a stretch lost, doubled or zeroed
        start, length = rng.randrange(len(whole) - 8), rng.randrange(1, 8)
        piece = whole[start : start + length]
        damages += [whole[:start] + other + whole[start + length :] for other in (b"", piece + piece, b"\0" * length)]
    for number, damage in enumerate(damages):
        path.write_bytes(damage)
        with pytest.raises(CorruptRecord, match=str(path.name)):
            pytest.fail(f"damage {number} was read as {store.read('scorecards', KEY, Scorecard)}: {damage!r}")


def _poisoned(store: ArtifactStore, **changes: object) -> None:
    (path,) = _files(store)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "body",
    [
        {**CARD.model_dump(mode="json"), "extra": 1},
        {**CARD.model_dump(mode="json"), "outcomes": ["right", "excellent"]},
        {**CARD.model_dump(mode="json"), "tokens": "many"},
        {**CARD.model_dump(mode="json"), "subject": "\ud800"},
        {k: v for k, v in CARD.model_dump(mode="json").items() if k != "split"},
        Verdict(algorithm_id="a", reason="accepted").model_dump(mode="json"),
        {"__reduce__": ["os.system", ["true"]]},
        [],
        None,
        "text",
    ],
)
def test_a_body_of_the_wrong_type_with_a_right_digest_is_corrupt(store: ArtifactStore, body: object) -> None:
    _poisoned(store, body=body, sha256=digest_of(body))
    with pytest.raises(CorruptRecord, match="is not a scorecards record"):
        store.read("scorecards", KEY, Scorecard)


@pytest.mark.parametrize(
    "changes",
    [
        {"body": {**CARD.model_dump(mode="json"), "tokens": 322}},
        {"body": {**CARD.model_dump(mode="json"), "seconds": float("nan")}},
        {"sha256": digest_of("another")},
        {"sha256": None},
        {"key": OTHER},
        {"kind": "verdicts"},
        {"format": 2},
        {"format": None},
    ],
)
def test_an_altered_envelope_is_corrupt(store: ArtifactStore, changes: dict[str, object]) -> None:
    _poisoned(store, **changes)
    with pytest.raises(CorruptRecord):
        store.read("scorecards", KEY, Scorecard)


def test_a_record_in_the_place_of_another_is_corrupt(store: ArtifactStore) -> None:
    store.write("scorecards", OTHER, CARD.model_copy(update={"tokens": 1}))
    one, other = (_root(store) / "records/scorecards" / key[:2] / f"{key}.json" for key in (KEY, OTHER))
    one.write_bytes(other.read_bytes())
    with pytest.raises(CorruptRecord, match="another record"):
        store.read("scorecards", KEY, Scorecard)


def test_a_folder_or_a_foreign_file_in_the_place_of_a_record_is_corrupt(store: ArtifactStore) -> None:
    (path,) = _files(store)
    path.unlink()
    path.mkdir()
    with pytest.raises(CorruptRecord, match=path.name):
        store.read("scorecards", KEY, Scorecard)


def test_a_corrupt_record_is_mended_by_writing_again(store: ArtifactStore) -> None:
    (path,) = _files(store)
    path.write_bytes(b"junk")
    store.write("scorecards", KEY, CARD)
    assert store.read("scorecards", KEY, Scorecard) == CARD


@pytest.mark.parametrize("where", ["file/below", "/proc/selfdev-store"])
def test_a_store_that_cannot_be_written_is_refused_by_name(where: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    root = tmp_path / where
    with pytest.raises(StoreError, match="cannot be written") as refusal:
        ArtifactStore(root)
    assert str(root) in str(refusal.value) and "`store:`" in str(refusal.value)


_FULL = """\
import resource, signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from selfdev_core.errors import StoreError
from selfdev_core.records import Verdict
from selfdev_core.store.artifacts import ArtifactStore
root, checkpoint = Path(sys.argv[1]), Path(sys.argv[2])
store = ArtifactStore(root)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
work = {
    "record": lambda: store.write("verdicts", "ab" * 32, Verdict(algorithm_id="a", reason="exception", detail="x" * 9999)),
    "checkpoint": lambda: store.add_checkpoint(checkpoint, "cd" * 32),
    "store": lambda: ArtifactStore(root / "new"),
}[sys.argv[4]]
try:
    work()
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize(("what", "limit"), [("record", 100), ("record", 0), ("checkpoint", 4096), ("store", 0)])
def test_a_full_disk_is_named_and_leaves_nothing_half_written(
    what: str, limit: int, store: ArtifactStore, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text("{}")
    (checkpoint / "model.safetensors").write_bytes(os.urandom(100_000))
    before = _files(store)
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(_root(store)), str(checkpoint), str(limit), what],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "File too large" in done.stdout and str(_root(store)) in done.stdout
    assert [path for path in _files(store) if "blobs" not in path.parts] == before
    assert verify(store, {}).damaged == ()  # a small file of the checkpoint may be there, whole
    assert store.read("scorecards", KEY, Scorecard) == CARD
    assert store.checkpoint_folder("cd" * 32) is None


def test_many_writers_of_one_record_leave_one_whole_record(store: ArtifactStore) -> None:
    seen: list[Record | None] = []

    def work(number: int) -> None:
        for _ in range(15):
            store.write("scorecards", OTHER, CARD.model_copy(update={"tokens": number}))
            seen.append(store.read("scorecards", OTHER, Scorecard))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 60
    assert all(isinstance(one, Scorecard) and one.tokens in range(4) for one in seen)
    assert len(_files(store)) == 2


def test_two_processes_write_the_same_store(store: ArtifactStore) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom selfdev_core.records import Cost\n"
        "from selfdev_core.store.artifacts import ArtifactStore\nstore = ArtifactStore(Path(sys.argv[1]))\n"
        "for n in range(100): store.write('costs', 'ef' * 32, Cost(tokens=n))\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", script, str(_root(store))]) for _ in range(2)]
    while any(process.poll() is None for process in both):
        found = store.read("costs", "ef" * 32, Cost)
        assert found is None or found.tokens in range(100)
    assert [process.returncode for process in both] == [0, 0]
    assert store.read("costs", "ef" * 32, Cost) == Cost(tokens=99)
    assert len(_files(store)) == 2


def test_checkpoints_are_kept_by_content_and_written_by_one_of_several_writers(
    store: ArtifactStore, tmp_path: Path
) -> None:
    source = tmp_path / "factory"
    source.mkdir()
    (source / "model.safetensors").write_bytes(b"weights")
    threads = [threading.Thread(target=store.add_checkpoint, args=(source, KEY)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    folder = store.checkpoint_folder(KEY)
    assert folder is not None and (folder / "model.safetensors").read_bytes() == b"weights"
    assert [path.name for path in folder.parent.iterdir()] == [KEY]
    store.drop_checkpoint(KEY)
    store.drop_checkpoint(KEY)
    assert store.checkpoint_folder(KEY) is None


def test_a_record_is_frozen_and_its_digest_is_that_of_its_content() -> None:
    with pytest.raises(ValueError, match="frozen"):
        CARD.tokens = 5  # type: ignore[misc]
    assert CARD.digest == Scorecard.model_validate_json(CARD.model_dump_json()).digest
    assert CARD.digest != CARD.model_copy(update={"tokens": 1}).digest
