"""`selfdev baselines`: what a campaign must beat, alone, in the records that the campaign shares."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from selfdev_core.baselines import Baselines
from selfdev_core.config import ControlsConfig
from selfdev_core.merging.human import human_algorithms
from tests.flows.conftest import Selfdev
from tests.flows.test_campaign import result_of, written

GUIDE = (Path(__file__).parents[2] / "docs" / "human-algorithms.md").read_text(encoding="utf-8")


def test_the_grid_in_the_guide_is_one() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    assert len(human_algorithms(ControlsConfig.model_validate(yaml.safe_load(text)["controls"]))) == 2 + 3 + 2 + 1


def test_baselines_are_scored_alone_and_found_done(selfdev: Selfdev, finished: Path, campaign_file: Path) -> None:
    before = written(finished)
    (command,) = re.findall(r"```bash\nselfdev (.*?)\n```", GUIDE, re.DOTALL)
    output = selfdev(*command.split(), cwd=campaign_file.parent).stdout
    folder = finished / "campaigns" / "tiny-baselines"
    found = Baselines.model_validate_json((folder / "baselines.json").read_text())
    campaign = {row.subject: row for row in result_of(finished).leaderboard}
    assert {row.label for row in found.rows} == {
        "seed", "alpha", "beta", "task arithmetic 0.6", "TIES 0.4/1", "DARE 0.6/0.6",
    }  # fmt: skip
    assert all(row.search == campaign[row.subject].search for row in found.rows)
    assert all(row.validation == campaign[row.subject].validation and row.validation for row in found.rows)
    assert all(row.test is None for row in found.rows)
    assert written(finished) == before  # the campaign has done all of it
    table = (folder / "baselines.md").read_text()
    assert all(row.label in table and row.label in output for row in found.rows)
    assert "tiny-baselines" in selfdev("status").stdout and not (folder / "result.json").exists()
