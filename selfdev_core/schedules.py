"""The sections of the configuration about the sampling temperature: its schedule, and other schedules to compare it with."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from selfdev_core.section import Section

ScheduleName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]


class TemperatureConfig(Section):
    """Sampling temperature per iteration t = 1, 2, …"""

    schedule: Literal["decay", "constant"] = Field(
        "constant",
        description="constant: always `first`, so that what changes over iterations is the factory. "
        "decay: first / (1 + rate·(t−1)), as the paper.",
    )
    first: float = Field(1.0, gt=0.0, le=5.0, description="Temperature of iteration 1 (the paper: 1.2).")
    rate: float = Field(
        0.2, ge=0.0, description="Decay constant (the paper: 0.2, giving 1.2, 1.0, 0.857). Only for decay."
    )


class AblationConfig(Section):
    """Parts of the method that are changed one at a time, each in an arm of its own beside the campaign's."""

    temperature: dict[ScheduleName, TemperatureConfig] = Field(
        default_factory=dict,
        description="Name → another temperature schedule: a whole search of its own, DPO included, that differs in nothing "
        "else (the paper: constant high, constant low, decayed). Each costs as much as the trained arm.",
    )

    @model_validator(mode="after")
    def _other_arms(self) -> Self:
        taken = sorted({"trained", "untrained", "finalists"} & set(self.temperature))
        if taken:
            raise ValueError(f"temperature: {taken[0]!r} is the name of another arm; choose another")
        return self


def first_temperatures(own: TemperatureConfig, ablation: AblationConfig) -> int:
    """Different temperatures with which the arms begin: so often iteration 1 draws its programs."""
    return len({own.first, *(one.first for one in ablation.temperature.values())})
