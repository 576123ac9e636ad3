"""The section `dpo` of the configuration: how the factory is trained on preference pairs."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from selfdev_core.section import Section

Share = Annotated[float, Field(ge=0.0, le=1.0)]
ModuleName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")]


class DpoConfig(Section):
    """Direct preference optimisation of the factory (TRL). Where the paper's value is not named, the paper does not tell it."""

    method: Literal["full", "lora"] = Field(
        "full",
        description="full: every weight is trained, in float32, and the next factory is a whole checkpoint. lora (the paper): an "
        "adapter on the seed is trained, and the next factory is seed and adapter.",
    )
    lora_rank: int = Field(16, ge=1, description="LoRA rank (the paper: 256). Only for method lora.")
    lora_alpha: int | None = Field(
        None, ge=1, description="LoRA α: the adapter counts α / rank. By default twice the rank. Only for method lora."
    )
    lora_dropout: float = Field(
        0.0, ge=0.0, lt=1.0, description="Dropout before the adapter while it is trained. Only for method lora."
    )
    lora_targets: Literal["all-linear"] | tuple[ModuleName, ...] = Field(
        "all-linear",
        description="Modules that get an adapter: all linear ones but the output layer, or names such as q_proj. Only for "
        "method lora.",
    )
    learning_rate: float = Field(1e-4, gt=0.0, description="Peak learning rate (the paper: 1e-6 with LoRA at 7B).")
    warmup_steps: int = Field(
        2, ge=0, description="Optimiser steps over which the learning rate rises; then it falls to 0."
    )
    beta: float = Field(0.3, gt=0.0, description="DPO β (the paper: 0.01).")
    sft_weight: float = Field(0.5, ge=0.0, description="Weight of the SFT term on chosen programs; 0 leaves it out.")
    steps: int = Field(20, ge=1, description="Optimiser steps per update.")
    epochs: float | None = Field(None, gt=0.0, description="Passes over the pairs, in place of `steps`.")
    batch_size: int = Field(16, ge=1, description="Pairs per step, over all processes.")
    micro_batch: int | None = Field(
        None,
        ge=1,
        description="Pairs that a process takes at once; their gradients are added up. By default all of its share.",
    )
    max_length: int | None = Field(
        None, ge=16, description="Tokens of prompt and program; longer ones are cut off. By default nothing is cut off."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="What is computed in; auto: bfloat16 on a GPU, float32 on a CPU. Trained weights are kept in float32.",
    )
    gradient_checkpointing: bool | None = Field(
        None, description="Compute activations twice to save memory; by default on a GPU."
    )
    processes: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that train together, one GPU each (or a CPU); their sums differ in the last digit.",
    )
    min_valid_share: Share = Field(
        0.9,
        description="Validity guard: an update whose fresh samples are less often valid is halved, quartered, skipped; 0: off.",
    )
    guard_samples: int = Field(64, ge=1, description="Fresh samples that the guard draws.")

    @model_validator(mode="after")
    def _batches(self) -> Self:
        at_once = self.processes * (self.micro_batch or 1)
        if self.batch_size % at_once:
            raise ValueError(
                f"batch_size must be a multiple of processes × micro_batch, got {self.batch_size} and {at_once}"
            )
        return self

    @property
    def per_process(self) -> int:
        """Pairs that a process holds at once."""
        return self.micro_batch or self.batch_size // self.processes

    def steps_over(self, pairs: int) -> int:
        """Optimiser steps of one update on so many pairs."""
        return self.steps if self.epochs is None else math.ceil(math.ceil(pairs / self.batch_size) * self.epochs)
