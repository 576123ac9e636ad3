"""However many programs an iteration has, a stage has few task runs, and every worker has work to the end."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from selfdev_core.resources import ResourcesConfig
from selfdev_core.stages.jobs import Program, chunks


def parts(programs: int, resources: ResourcesConfig) -> list[int]:
    drawn = [Program(algorithm_id=str(n), source="") for n in range(programs)]
    cut = chunks(drawn, resources.chunk_for(programs), resources.workers)
    assert [program for part in cut for program in part] == drawn
    return [len(part) for part in cut]


@pytest.mark.parametrize("workers", [1, 2, 3, 8, 16, 64])
@pytest.mark.parametrize("programs", [1, 15, 64, 300, 1024, 3000, 20_000])
def test_a_stage_has_few_task_runs_of_nearly_equal_length(programs: int, workers: int) -> None:
    cut = parts(programs, ResourcesConfig(workers=workers))
    assert len(cut) <= max(32, 4 * workers) + workers
    assert max(cut) - min(cut) <= 1
    if programs >= workers:
        assert len(cut) % workers == 0


def test_small_campaigns_are_cut_as_before() -> None:
    assert set(parts(64, ResourcesConfig())) == {16}


def test_a_chunk_size_that_is_set_counts() -> None:
    assert set(parts(3000, ResourcesConfig(chunk_size=10))) == {10}
    assert ResourcesConfig(chunk_size=10).chunk_for(7) == 10


@pytest.mark.parametrize("setting", [{"ray_address": "head:6379"}, {"gpus_per_worker": 1.0}])
def test_settings_of_ray_without_ray_are_refused(setting: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="only for runner: ray"):
        ResourcesConfig.model_validate(setting)
    assert ResourcesConfig.model_validate(setting | {"runner": "ray"}).runner == "ray"
