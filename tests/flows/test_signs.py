"""Asking running campaigns for a sign of life: every Running run of ours, page by page."""

from __future__ import annotations

from typing import Any

from prefect.automations import EventTrigger

from flows.deploy import crash_automation
from flows.signs import ask_for_signs


def test_every_running_run_is_asked_once_with_what_the_automation_looks_for() -> None:
    runs, asked = [f"run-{number}" for number in range(430)], []

    def post(path: str, body: Any) -> Any:
        if path == "/events":
            asked.extend(body)
            return None
        assert path == "/flow_runs/filter"
        assert body["flow_runs"] == {"state": {"type": {"any_": ["RUNNING"]}}, "tags": {"all_": ["selfdev"]}}
        return [{"id": run} for run in runs[body["offset"] : body["offset"] + body["limit"]]]

    assert ask_for_signs(post) == 430
    assert [one["resource"]["prefect.resource.id"] for one in asked] == [f"prefect.flow-run.{run}" for run in runs]
    trigger = crash_automation().trigger
    assert isinstance(trigger, EventTrigger)
    assert {one["event"] for one in asked} <= set(trigger.after)
    assert not {one["event"] for one in asked} & set(trigger.expect)
    assert all(
        {"prefect.resource.id": "prefect.tag.selfdev", "prefect.resource.role": "tag"} in one["related"]
        for one in asked
    )


def test_without_running_runs_nobody_is_asked() -> None:
    assert ask_for_signs(lambda path, body: [] if path == "/flow_runs/filter" else 1 / 0) == 0
