"""The guide to many machines shows settings that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfdev_core.config import CampaignConfig

GUIDE = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")
BLOCKS: list[dict[str, Any]] = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)]


@pytest.mark.parametrize("block", BLOCKS)
def test_settings_in_the_guide_are_accepted(block: dict[str, Any]) -> None:
    whole = {"name": "guide", "models": {"family": "arithmetic"}, "questions": {"family": "arithmetic"}} | block
    assert CampaignConfig.model_validate(whole).resources.runner == "ray"
