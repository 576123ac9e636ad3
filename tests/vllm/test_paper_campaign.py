"""The paper's campaign as it ships, its model and benchmark names replaced by the miniature's, no other change: 3,000 programs
per iteration, the file's numbers of questions, the untrained factory beside it, LoRA of rank 256, transfer, vLLM. An hour on two
cores."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from selfdev_core.assemble import load_result
from selfdev_core.config import load_campaign
from tests.config.test_shipped_campaigns import FOLDER, miniature_of
from tests.flows.conftest import command, environment_of


@pytest.mark.parametrize("name", ["paper-openchat-7b"])
def test_the_papers_campaign_runs_end_to_end(
    python: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / "vllm").mkdir(parents=True)
    (home / "vllm" / "environment").symlink_to(python.parents[1])  # where `selfdev vllm install` would have put it
    config = miniature_of(load_campaign(FOLDER / f"{name}.yaml"))
    file = tmp_path / "campaign.yaml"
    file.write_text(config.model_dump_json(), encoding="utf-8")  # JSON is YAML
    try:
        done = subprocess.run(
            command("run", str(file)), env=environment_of(home), capture_output=True, text=True, timeout=8 * 3600
        )
    finally:
        subprocess.run(command("server", "stop"), env=environment_of(home), check=False, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.setenv("SELFDEV_HOME", str(home))
    result = load_result(config.name)
    trained = [r for r in result.iterations if r.arm == "trained"]
    assert result.finished and result.winner and result.test_openings == 1
    assert [r.samples for r in trained] == [3000] * 3 and all(r.pairs for r in trained[:-1])
    assert [round(r.temperature, 2) for r in trained] == [1.2, 1.0, 0.86]
    (moved,) = result.transfers
    assert {len(row.search.outcomes) for row in result.leaderboard if row.search} == {100}
    assert {len(row.test.outcomes) for row in (*result.leaderboard, *moved.rows) if row.test} == {1219}
    assert moved.name == "other-experts" and moved.test_openings == 1
    assert result.winner in {row.subject for row in moved.rows}
