"""Prefect's results in the store: what comes back is what went in, whatever lies there chooses nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prefect.results import ResultRecord, ResultRecordMetadata
from prefect.serializers import JSONSerializer
from pydantic import ValidationError

from selfdev_core.errors import StoreError
from selfdev_core.kinds import TASK_RESULTS, TaskResult
from selfdev_core.records import digest_of
from selfdev_core.store.artifacts import ArtifactStore, record_name
from tasks.results import StoreResults

NAME = "evaluate-v1001-abc"
MANIFEST = {"scorecards": [{"tokens": 3, "é": 1e-05}], "cost": {"seconds": 0.5}}


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def results(tmp_path: Path, told: list[str]) -> StoreResults:
    made = StoreResults(store=str(tmp_path / "store")).telling(told.append)
    record = ResultRecord(metadata=ResultRecordMetadata(storage_key=NAME, serializer=JSONSerializer()), result=MANIFEST)
    made.write_path(NAME, content=record.serialize())
    return made


def test_a_result_comes_back(results: StoreResults) -> None:
    found: ResultRecord[object] = ResultRecord.deserialize(results.read_path(NAME))
    assert found.result == MANIFEST and found.metadata.storage_key == NAME
    with pytest.raises(ValueError, match="there is no result other"):
        results.read_path("other")


def test_a_damaged_or_swapped_result_is_reported_and_absent(results: StoreResults, told: list[str]) -> None:
    store = ArtifactStore(results.store)
    name = record_name(TASK_RESULTS, digest_of(NAME))
    whole = store.objects.read(name)
    assert whole is not None
    for damage in (whole[:-3], b"", whole.replace(b"0.5", b"0.6"), whole.replace(b"task-results", b"task-resultz")):
        store.objects.write(name, damage)
        with pytest.raises(ValueError, match="is damaged"):
            results.read_path(NAME)
    store.objects.write(record_name(TASK_RESULTS, digest_of("other")), whole)
    with pytest.raises(ValueError, match="is damaged"):
        results.read_path("other")
    assert len(told) == 5 and all(text.endswith("it is computed again") for text in told)


def test_what_a_task_run_has_raised_is_not_kept(results: StoreResults) -> None:
    metadata = ResultRecordMetadata(storage_key="raised", serializer=JSONSerializer())
    raised: ResultRecord[object] = ResultRecord(metadata=metadata, result=StoreError("no space left"))
    before = list(ArtifactStore(results.store).objects.list())
    results.write_path("raised", raised.serialize())
    assert list(ArtifactStore(results.store).objects.list()) == before
    with pytest.raises(ValueError, match="there is no result raised"):
        results.read_path("raised")


@pytest.mark.parametrize(
    "poison",
    [
        {"__class__": "pathlib.Path", "data": "/"},
        {"__exc_type__": "SystemExit", "message": "x"},
        {"metadata": {"serializer": {"type": "pickle"}}, "result": "gASVAA=="},
    ],
)
def test_nothing_in_a_result_chooses_how_it_is_read(results: StoreResults, poison: dict[str, object]) -> None:
    """A record with a right digest that somebody else wrote stays plain data, for the stage's type to refuse."""
    manifest = {"scorecards": poison}
    ArtifactStore(results.store).write(TASK_RESULTS, digest_of(NAME), TaskResult(manifest=manifest))
    found: ResultRecord[object] = ResultRecord.deserialize(results.read_path(NAME))
    assert found.result == manifest
    assert json.loads(results.read_path(NAME))["metadata"]["serializer"]["type"] == "json"


def test_a_result_that_is_no_plain_data_is_not_stored(results: StoreResults) -> None:
    with pytest.raises((ValueError, ValidationError)):
        results.write_path(NAME, content=json.dumps({"result": json.dumps([1])}).encode())


def test_the_block_holds_an_address_and_nothing_else() -> None:
    assert set(StoreResults(store="s3://bucket/x").model_dump(exclude={"block_type_slug"})) == {"store"}
