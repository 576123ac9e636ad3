"""Asks every running campaign for a sign of life. Whoever starts a Prefect server or a worker does so.

A run that dies while the server is away leaves the automation that finds dead runs (`deploy.crash_automation`) nothing to
wait for. This gives it something: a run that is asked and stays silent is marked Crashed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from flows.names import SOUGHT, TAG

Path = Literal["/flow_runs/filter", "/events"]
Post = Callable[[Path, Any], Any]
"""Sends JSON to a path of the server's API and gives the answer's JSON. Raises what its library raises."""
_PAGE = 200


def ask_for_signs(post: Post) -> int:
    """Ask all runs that the server calls Running; returns how many."""
    asked = 0
    wanted = {"state": {"type": {"any_": ["RUNNING"]}}, "tags": {"all_": [TAG]}}
    while runs := post("/flow_runs/filter", {"flow_runs": wanted, "limit": _PAGE, "offset": asked, "sort": "ID_DESC"}):
        post("/events", [_question(run["id"]) for run in runs])
        asked += len(runs)
    return asked


def _question(run: str) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": SOUGHT,
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        "related": [{"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"}],
        "payload": {},
    }
