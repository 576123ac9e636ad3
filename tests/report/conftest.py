"""One synthetic campaign for the whole folder: building it takes a second."""

from __future__ import annotations

import pytest
from synthetic import campaign

from selfdev_core.result import CampaignResult


@pytest.fixture(scope="session")
def finished() -> CampaignResult:
    return campaign()
