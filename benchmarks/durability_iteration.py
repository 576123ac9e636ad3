"""One iteration with a trivial evaluator, as a process of its own: the real flow, tasks, store and Prefect server.

    python -m benchmarks.durability_iteration PROGRAMS

Says "ready" when everything is started, waits for a line, runs the iteration, says "done" with what it found, waits again.
"""

from __future__ import annotations

import json
import sys

from benchmarks.trivial import make_trivial
from flows.server import use_server
from selfdev_core.config import CampaignConfig
from selfdev_core.iteration import IterationSpec, read_iteration
from selfdev_core.prepare import prepare
from selfdev_core.records import FactoryRef
from selfdev_core.workspace import close_workspaces, workspace_of


def configuration(programs: int) -> CampaignConfig:
    """The miniature campaign with so many programs per iteration and default chunk size."""
    return CampaignConfig.model_validate(
        {
            "name": f"trivial-{programs}",
            "models": {"family": "arithmetic"},
            "questions": {"family": "arithmetic", "search": 64},
            "factory": {"samples": programs},
            "dpo": {"guard_samples": 8},
        }
    )


def main(programs: int) -> None:
    use_server()
    ready = prepare(configuration(programs))
    workspace = workspace_of(ready.settings)
    make_trivial(workspace)
    from prefect import flow

    from flows.iteration import iteration

    factory = FactoryRef(sha256=ready.plan.models.seed.sha256)
    spec = IterationSpec(plan=ready.plan, arm="trained", iteration=1, factory=factory, train=True)

    @flow(name="trivial")
    def trivial() -> str:
        return iteration(spec, ready.settings)

    print("ready", flush=True)
    sys.stdin.readline()
    with workspace.ledger.run():
        key = trivial()
    record = read_iteration(key, workspace)
    found = {
        "samples": record.result.samples,
        "distinct": len(record.result.candidates),
        "evaluated": record.result.evaluated,
        "pairs": record.result.pairs,
        "trained": record.factory != factory,
    }
    print(f"done {json.dumps(found)}", flush=True)
    sys.stdin.readline()
    close_workspaces(ready.settings)


if __name__ == "__main__":
    main(int(sys.argv[1]))
