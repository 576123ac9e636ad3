"""Where a budget ends the search: always at the same place, never at an earlier one for a larger cap."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from selfdev_core.assemble import campaign_folder, earlier_result, save_result, set_aside
from selfdev_core.budget import reached
from selfdev_core.config import CampaignConfig
from selfdev_core.evaluation.sources import QuestionSource
from selfdev_core.iteration import CampaignPlan, IterationRecord, IterationSpec, _generate_job
from selfdev_core.ledger.events import Event
from selfdev_core.ledger.files import JournalFile
from selfdev_core.openings import read_openings, record_opening
from selfdev_core.records import Arm, Cost, FactoryRef, ModelRef, ModelSet, QuestionSet
from selfdev_core.result import CampaignResult, IterationResult, Stop
from selfdev_core.stages.jobs import Program
from selfdev_core.store.artifacts import ArtifactStore
from selfdev_core.turns import evaluate_jobs
from selfdev_core.workspace import Workspace, WorkspaceSettings

SAMPLES = 10


def plan(**budget: Any) -> CampaignPlan:
    config = CampaignConfig.model_validate(
        {
            "name": "mine",
            "models": {"family": "arithmetic"},
            "questions": {"family": "arithmetic"},
            "factory": {"iterations": 4, "samples": SAMPLES},
            "budget": budget,
        }
    )
    models = ModelSet(
        seed=ModelRef(name="seed", sha256="1"), experts=(ModelRef(name="alpha", sha256="2"),), scope="mlp"
    )
    return CampaignPlan(
        config=config,
        models=models,
        prompt="",
        decoding=QuestionSource(config.questions).decoding(Path("seed")),
        search=QuestionSet(split="search", sha256="3", count=4),
        sealed=QuestionSet(split="test", sha256="4", count=4),
    )


def iterations(count: int, arm: Arm = "trained") -> list[IterationRecord]:
    """Iterations that drew `SAMPLES` programs and sampled 100 tokens each."""
    return [
        IterationRecord(
            result=IterationResult(
                arm=arm,
                iteration=number,
                temperature=1.0,
                samples=SAMPLES,
                valid_share=0.0,
                distinct_share=1.0,
                distinct_functions=0,
                evaluated=0,
                sample_scores=(0.0,) * SAMPLES,
                reasons={},
                candidates=(),
                factory_sha256="1",
            ),
            factory=FactoryRef(sha256="1"),
            scorecards=(),
            costs={"generate": Cost(tokens=60), "evaluate": Cost(tokens=40)},
        )
        for number in range(1, count + 1)
    ]


@pytest.fixture
def workspace(store: ArtifactStore) -> Iterator[Workspace]:
    made = Workspace(WorkspaceSettings(store=store.address, campaign="mine", models={}, workers=1))
    yield made
    made.close()


def after(done: int, workspace: Workspace, **budget: Any) -> Stop | None:
    return reached(plan(**budget), iterations(done), iterations(done, "untrained"), workspace)


def spend(name: str, *events: Event) -> None:
    """Write a process's journal by hand."""
    file = JournalFile(campaign_folder("mine") / "ledger" / f"{name}.jsonl")
    for number, event in enumerate(events, 1):
        file.append(event.model_copy(update={"number": number}))
    file.close()


def ran(name: str, began_hour: float, hours: float, device_hours: float = 0.0) -> None:
    began, ended = began_hour * 3600, (began_hour + hours) * 3600
    done = Event(
        number=0, what="done", when=ended, stage="evaluate", key=name, device="cpu", occupied=device_hours * 3600
    )
    spend(
        name,
        Event(number=0, what="run-began", when=began),
        done,
        Event(number=0, what="run-ended", when=ended, note="finished"),
    )


def stopping_point(workspace: Workspace, **budget: Any) -> int:
    return next((done for done in (1, 2, 3) if after(done, workspace, **budget)), 4)


def test_without_a_budget_nothing_stops(workspace: Workspace) -> None:
    ran("a", 0, 1000, 1000)
    assert stopping_point(workspace) == 4


@pytest.mark.parametrize(("cap", "iterations"), [(10, 1), (29, 1), (30, 2), (49, 2), (50, 3), (69, 3), (70, 4)])
def test_no_iteration_begins_that_would_draw_more_programs_than_the_cap(
    workspace: Workspace, cap: int, iterations: int
) -> None:
    """Iteration 1 draws 10 programs, which both arms share; every further one draws 10 for each arm."""
    assert stopping_point(workspace, programs=cap) == iterations


@pytest.mark.parametrize(("cap", "iterations"), [(1, 1), (100, 1), (101, 2), (300, 2), (301, 3), (501, 4)])
def test_no_iteration_begins_once_the_tokens_are_spent(workspace: Workspace, cap: int, iterations: int) -> None:
    assert stopping_point(workspace, tokens=cap) == iterations


def test_hours_that_were_spent_end_the_search_and_the_answer_stays_the_same(workspace: Workspace) -> None:
    ran("a", 0, 1.0, device_hours=1.5)
    assert after(1, workspace, wall_hours=2.0, device_hours=2.0) is None
    ran("b", 5, 1.5, device_hours=1.0)
    assert after(2, workspace, wall_hours=2.0) == Stop(cap="wall_hours", limit=2.0, spent=2.5, iterations=2, planned=4)
    assert after(2, workspace, device_hours=2.5) == Stop(
        cap="device_hours", limit=2.5, spent=2.5, iterations=2, planned=4
    )
    ran("c", 10, 100.0, device_hours=100.0)  # the finalists, and whatever came later
    assert after(1, workspace, wall_hours=2.0, device_hours=2.0) is None
    assert stopping_point(workspace, wall_hours=2.0) == stopping_point(workspace, device_hours=2.5) == 2


def test_a_larger_cap_never_stops_earlier(workspace: Workspace) -> None:
    for number, name in enumerate("abc", 1):
        ran(name, number * 10, 1.0, device_hours=0.7)
        after(number, workspace)
    points = [stopping_point(workspace, wall_hours=0.5 * step) for step in range(1, 9)]
    assert points == sorted(points) == [1, 1, 2, 2, 3, 3, 4, 4]


def test_what_was_spent_is_kept_for_a_budget_that_is_set_later(workspace: Workspace) -> None:
    ran("a", 0, 1.0)
    assert after(1, workspace) is None
    ran("b", 5, 9.0)
    assert after(1, workspace, wall_hours=5.0) is None


def test_another_campaign_of_the_same_name_is_asked_anew(workspace: Workspace) -> None:
    ran("a", 0, 1.0)
    assert after(1, workspace, wall_hours=2.0) is None
    ran("b", 5, 9.0)
    other = plan(wall_hours=2.0)
    other = other.model_copy(update={"config": other.config.model_copy(update={"seed": 1})})
    assert reached(other, iterations(1), iterations(1, "untrained"), workspace) is not None


@pytest.mark.parametrize(
    "change",
    [
        {"finalists": {"count": 2}},
        {"controls": {"human": ["linear"]}},
        {"store": "elsewhere"},
        {"factory": {"iterations": 9, "samples": SAMPLES}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_hours_spent_later_do_not_stop_a_search_that_does_the_same(
    workspace: Workspace, change: dict[str, Any]
) -> None:
    ran("a", 0, 1.0)
    assert after(1, workspace, wall_hours=2.0) is None
    ran("b", 5, 9.0)
    raw = plan(wall_hours=2.0).config.model_dump(mode="json")
    other = plan().model_copy(update={"config": CampaignConfig.model_validate(raw | change)})
    assert reached(other, iterations(1), iterations(1, "untrained"), workspace) is None


def test_a_stop_says_what_ended_the_search_and_how_to_go_on() -> None:
    told = Stop(cap="programs", limit=29, spent=10, iterations=1, planned=4).told
    assert "budget.programs" in told and "after 1 of 4 iterations" in told and "10 of 29 programs" in told
    assert "would have exceeded" in told and "larger cap" in told
    assert "0.523 of 0.5 wall hours" in Stop(cap="wall_hours", limit=0.5, spent=0.5233, iterations=1, planned=4).told


def test_rounds_that_the_untrained_arm_adds_after_a_stop_are_drawn_at_the_last_temperature() -> None:
    decay = plan().model_dump(mode="json")
    decay["config"]["factory"]["temperature"] = {"schedule": "decay", "first": 1.2, "rate": 0.2}
    spec = IterationSpec(
        plan=CampaignPlan.model_validate(decay),
        arm="untrained",
        iteration=3,
        factory=FactoryRef(sha256="1"),
        train=False,
    )

    def temperature(iteration: int, last: int | None) -> float:
        one = spec.model_copy(update={"iteration": iteration, "last": last})
        return _generate_job(one, one.factory, 0, SAMPLES, iteration).temperature

    assert temperature(3, 2) == temperature(2, None) > temperature(3, None)


def test_budget_and_resources_are_in_no_cache_key() -> None:
    bare = plan()
    capped = plan(programs=50, wall_hours=1.0, price_per_device_hour=2.0)
    programs = [Program(algorithm_id=str(n), source="") for n in range(5)]

    def keys(one: CampaignPlan) -> list[str]:
        spec = IterationSpec(plan=one, arm="trained", iteration=1, factory=FactoryRef(sha256="1"), train=True)
        jobs = evaluate_jobs(one, programs, one.search, 2)
        return [job.digest for job in (*jobs, _generate_job(spec, spec.factory, 0, SAMPLES, 1))]

    assert bare.digest != capped.digest and keys(bare) == keys(capped)


def test_a_result_is_found_again_under_another_budget_and_other_resources(home: Path) -> None:
    config = plan().config
    folder = home / "campaigns" / "mine"
    folder.mkdir(parents=True)
    saved = CampaignResult(
        name="mine", config=config.model_dump(mode="json"), finished=True, started_at="x", conditions={}, iterations=()
    )
    before = saved.model_dump(mode="json")
    del before["config"]["budget"], before["stopped_by"]  # as saved before there were budgets
    (folder / "result.json").write_text(CampaignResult.model_validate(before).model_dump_json())
    changed = plan(tokens=5).config
    resources = changed.resources.model_copy(update={"workers": 7})
    assert earlier_result(changed.model_copy(update={"resources": resources})) is not None
    assert earlier_result(changed.model_copy(update={"seed": 9})) is None


def test_a_finished_result_of_other_settings_is_set_aside_not_overwritten(home: Path) -> None:
    def result(finished: bool, **change: Any) -> CampaignResult:
        config = plan().config.model_copy(update=change)
        return CampaignResult(
            name="mine",
            config=config.model_dump(mode="json"),
            finished=finished,
            started_at="x",
            conditions={},
            iterations=(),
        )

    folder = home / "campaigns" / "mine"
    assert set_aside(plan().config) is None
    save_result(result(True))
    assert set_aside(plan(tokens=5).config) is None
    aside = set_aside(plan().config.model_copy(update={"seed": 9}))
    assert aside is not None and CampaignResult.model_validate_json(aside.read_text()) == result(True)
    assert sorted(path.suffix for path in folder.glob("re*-*")) == [".html", ".json"]
    assert not (folder / "result.json").exists()
    save_result(result(False))
    assert set_aside(plan().config.model_copy(update={"seed": 9})) is None


def test_a_budget_that_allows_no_iteration_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"budget\.programs: 9 .* at least 10"):
        plan(programs=9)
    for wrong in ({"wall_hours": 0}, {"device_hours": -1}, {"tokens": 0}, {"price_per_device_hour": -1}, {"euros": 1}):
        with pytest.raises(ValidationError):
            plan(**wrong)


def test_a_search_that_goes_on_after_its_test_score_was_known_opens_the_test_split_again(store: ArtifactStore) -> None:
    questions = QuestionSet(split="test", sha256="4", count=1)

    def opened(stopped_after: int) -> int:
        record_opening(store, "mine", questions, "winner", ("seed",), stopped_after)
        return len(read_openings(store, "mine").openings)

    assert [opened(1), opened(1), opened(2), opened(0), opened(0)] == [1, 1, 2, 3, 3]
