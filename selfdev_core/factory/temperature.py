"""Temperature schedules."""

from __future__ import annotations

from selfdev_core.schedules import TemperatureConfig


def temperature_of(config: TemperatureConfig, iteration: int) -> float:
    """Sampling temperature of iteration t = 1, 2, …

    decay: T_t = T_1 / (1 + rate·(t−1)); with the paper's 1.2 and 0.2 this gives 1.2, 1.0, 0.857. (The paper states the
    first and last value and the constant; the form is our reading.) constant: T_1.
    """
    if config.schedule == "constant":
        return config.first
    return config.first / (1.0 + config.rate * (iteration - 1))
