"""Transfer, the temperature ablation and the paper's campaign, for real: real models, sandbox, server and command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from benchmarks.loop import essence
from selfdev_core.config import load_campaign
from tests.config.test_shipped_campaigns import FOLDER, miniature_of
from tests.flows.conftest import TINY, Selfdev
from tests.flows.test_campaign import result_of, written

OTHER = "other:\n  models: {family: transfer}\n  questions: {family: transfer, search: 16, validation: 24, test: 32}\n"


@pytest.mark.slow
def test_the_finalists_go_to_another_family_and_again_without_any_work(
    finished: Path, selfdev: Selfdev, tmp_path: Path
) -> None:
    before = result_of(finished)
    (tmp_path / "other.yaml").write_text(OTHER)
    told = selfdev("transfer", "tiny", "--to", str(tmp_path / "other.yaml")).stdout
    assert "on other" in told
    result = result_of(finished)
    assert essence(result) == essence(before) and result.test_openings == 1
    (moved,) = result.transfers
    finalists = {row.subject for row in before.leaderboard if row.kind.startswith("discovered") and row.validation}
    assert set(moved.finalists) == finalists and moved.winner == before.winner
    rows = {row.subject: row for row in moved.rows}
    winner = rows[before.winner]
    assert winner.validation and winner.test and len(winner.test.outcomes) == 32 and winner.search is None
    assert rows["seed"].test and {one.label for one in moved.comparisons} >= {
        "seed",
        "best expert",
        "best human-designed",
    }
    assert rows["seed"].validation != next(r for r in before.leaderboard if r.subject == "seed").validation
    page = (finished / "campaigns" / "tiny" / "report.html").read_text()
    assert "On other models" in page and "this campaign" in page

    computed = written(finished)
    selfdev("transfer", "tiny", "--to", str(tmp_path / "other.yaml"), "--direct")
    assert written(finished) == computed  # with and without Prefect: the same records
    assert result_of(finished).transfers[0].model_dump(exclude={"cost"}) == moved.model_dump(exclude={"cost"})

    selfdev("run", _tiny(tmp_path))
    assert [one.name for one in result_of(finished).transfers] == ["other"]  # a rerun of the campaign keeps it


def _tiny(folder: Path) -> str:
    (folder / "tiny.yaml").write_text(TINY)
    return str(folder / "tiny.yaml")


@pytest.mark.slow
def test_a_campaign_with_transfer_and_ablation_in_its_file(home: Path, selfdev: Selfdev, tmp_path: Path) -> None:
    raw = yaml.safe_load(TINY) | {
        "name": "whole",
        "store": "whole-store",
        "ablation": {"temperature": {"high": {"first": 1.3}, "decayed": {"schedule": "decay", "first": 1.0}}},
        "transfer": yaml.safe_load(OTHER),
    }
    file = tmp_path / "whole.yaml"
    file.write_text(yaml.safe_dump(raw, sort_keys=False))
    selfdev("run", str(file), timeout=1800)
    result = result_of(home, "whole")
    assert result.finished and [one.name for one in result.transfers] == ["other"]
    high, decayed = result.ablation
    assert (high.name, decayed.name) == ("high", "decayed")
    assert [r.temperature for r in decayed.iterations[:2]] == pytest.approx([1.0, 1.0 / 1.2])
    assert result.budget and high.evaluated <= result.budget.trained >= decayed.evaluated
    trained = [r for r in result.iterations if r.arm == "trained"]
    assert (
        decayed.iterations[0].sample_scores == trained[0].sample_scores
    )  # one temperature: one and the same iteration
    assert high.iterations[0].sample_scores != trained[0].sample_scores
    for arm in (high, decayed):
        assert arm.best and arm.best.validation and arm.best.test is None and arm.iterations[0].pairs
    tested = [
        card["subject"]
        for path in (tmp_path / "whole-store" / "records" / "scorecards").rglob("*.json")
        if (card := json.loads(path.read_text())["body"])["split"] == "test"
    ]
    assert len(tested) <= 10  # five at home, five there
    page = (home / "campaigns" / "whole" / "report.html").read_text()
    assert "What the temperature did" in page and "decayed" in page and "On other models" in page
    runs = json.loads(selfdev("cost", "whole", "--json").stdout)
    assert runs["repeated_evaluations"] == 0
    selfdev("run", str(file))
    again = result_of(home, "whole")
    assert essence(again) == essence(result) and again.ablation == result.ablation and again.ended_at == result.ended_at


@pytest.mark.slow
def test_the_papers_campaign_runs_on_the_miniature(home: Path, selfdev: Selfdev, tmp_path: Path) -> None:
    """Names replaced, transformers in vLLM's place, fewer programs and questions. `make test-vllm` runs it with no other
    change than names."""
    sizes = {"search": 4, "validation": 16, "test": 32}
    config = miniature_of(load_campaign(FOLDER / "paper-openchat-7b.yaml"), sizes)
    raw = config.model_dump(mode="json")
    raw["engine"] = {"kind": "transformers"}
    raw["factory"]["samples"] = 48
    file = tmp_path / "paper.yaml"
    file.write_text(yaml.safe_dump(raw, sort_keys=False))
    selfdev("run", str(file), timeout=3600)
    result = result_of(home, config.name)
    trained = [r for r in result.iterations if r.arm == "trained"]
    assert result.finished and result.winner and result.test_openings == 1
    assert [round(r.temperature, 2) for r in trained] == [1.2, 1.0, 0.86] and trained[0].pairs > 0
    assert trained[0].factory_sha256 != trained[1].factory_sha256
    methods = {row.label.split()[0] for row in result.leaderboard if row.kind == "human"}
    assert methods == {"task", "TIES", "Model"}
    (moved,) = result.transfers
    assert moved.name == "other-experts" and moved.test_openings == 1
