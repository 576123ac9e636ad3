"""The commands of docs/deployments.md run as they stand, in their order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.retry import CAMPAIGN, Site, kill_tree, until

GUIDE = (Path(__file__).parents[2] / "docs" / "deployments.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_command_of_the_deployments_guide_works(at: Site, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(CAMPAIGN.format(name="tiny"), encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL)
    script = "set -eu\n" + "\n".join(blocks).replace(
        "selfdev worker &", "selfdev worker >worker.log 2>&1 & echo $! >worker.pid"
    )
    environment = at.environment | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    worker = tmp_path / "worker.pid"
    try:
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "schedule cron 0 22 * * * Europe/Berlin" in done.stdout and "schedule off" in done.stdout
        (run,) = re.findall(r"/runs/flow-run/([0-9a-f-]{36})", done.stdout)
        until(lambda: at.state(run) == "Completed", 600, "the end of the run")
    finally:
        if worker.is_file():
            kill_tree(int(worker.read_text()))


@pytest.mark.slow
def test_prefect_deploys_the_file_as_it_stands_like_selfdev_deploy(connected: Site, tmp_path: Path) -> None:
    """`prefect deploy` and `selfdev deploy` leave the same deployment, but for name, pool and how full the form is."""
    root = Path(__file__).parents[2]
    for pool, kind in (("selfdev", "process"), ("selfdev-docker", "docker"), ("selfdev-kubernetes", "kubernetes")):
        own = {"selfdev": "miniature", "selfdev-docker": "miniature-d", "selfdev-kubernetes": "miniature-k"}[pool]
        campaign = tmp_path / f"{own}.yaml"
        text = (root / "deployments" / "campaigns" / "miniature.yaml").read_text()
        campaign.write_text(text.replace("name: miniature", f"name: {own}"))
        connected.selfdev("deploy", str(campaign), "--type", kind, "--pool", pool)
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(
        [*command, "--prefect-file", "deployments/prefect.yaml"],
        cwd=root,
        env=connected.environment | {"PREFECT_API_URL": connected.url},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    same = ("entrypoint", "description", "concurrency_options", "enforce_parameter_schema", "parameter_openapi_schema")
    for theirs, ours in (("process", "miniature"), ("docker", "miniature-d"), ("kubernetes", "miniature-k")):
        a = connected.get(f"/deployments/name/campaign/miniature-{theirs}")
        b = connected.get(f"/deployments/name/campaign/{ours}")
        assert {key: a[key] for key in same} == {key: b[key] for key in same}
        assert a["job_variables"] == b["job_variables"] and a["work_pool_name"] == b["work_pool_name"]
        assert not a["pull_steps"] and not b["pull_steps"]
        assert [one["active"] for one in a["schedules"]] == [False]
