"""Temperature schedules."""

from __future__ import annotations

from itertools import pairwise

import pytest

from selfdev_core.factory.temperature import temperature_of
from selfdev_core.schedules import TemperatureConfig


def test_decay_gives_the_papers_temperatures() -> None:
    config = TemperatureConfig(schedule="decay", first=1.2)
    assert [temperature_of(config, t) for t in (1, 2, 3)] == pytest.approx([1.2, 1.0, 0.857], abs=5e-4)


def test_constant_stays() -> None:
    config = TemperatureConfig(schedule="constant", first=0.8)
    assert [temperature_of(config, t) for t in (1, 2, 50)] == [0.8, 0.8, 0.8]


def test_decay_falls_and_stays_above_zero() -> None:
    temperatures = [temperature_of(TemperatureConfig(schedule="decay"), t) for t in range(1, 101)]
    assert all(a > b > 0 for a, b in pairwise(temperatures))
