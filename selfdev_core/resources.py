"""The section `resources` of the configuration: how the work is spread over processes, machines and task runs."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from selfdev_core.section import Section

_CHUNK, _TASK_RUNS = 16, 32


class ResourcesConfig(Section):
    """How the work is spread. Nothing here changes a result, so nothing here is part of a cache key; but where transformers runs
    on GPUs it computes in bfloat16, and that is.
    """

    workers: int = Field(
        2,
        ge=1,
        le=256,
        description="Processes that hold models; one thread each. With Ray: how many the cluster runs at once.",
    )
    runner: Literal["threads", "ray"] = Field(
        "threads",
        description="threads: stages run in this process and its workers. ray: on a Ray cluster (pip install selfdev[ray]).",
    )
    ray_address: str | None = Field(
        None,
        min_length=1,
        description="Only for ray: an existing cluster, host:port, ray://host:port or auto; by default one is started on this "
        "machine, with `workers` processes.",
    )
    gpus_per_worker: float = Field(
        0.0, ge=0.0, le=64.0, description="Only for ray: GPUs that each task run with a model asks of the cluster."
    )
    chunk_size: int | None = Field(
        None,
        ge=1,
        description="Candidates per task run, at most. By default 16, and more where a stage would need over 32 task runs "
        "(with more than 8 workers: over 4 per worker).",
    )

    save_steps: int = Field(
        50,
        ge=1,
        description="A killed training goes on from the last multiple of so many optimiser steps; a shorter one starts anew.",
    )

    @model_validator(mode="after")
    def _only_for_ray(self) -> Self:
        if self.runner != "ray" and (self.ray_address or self.gpus_per_worker):
            raise ValueError("ray_address and gpus_per_worker are only for runner: ray")
        return self

    def chunk_for(self, programs: int) -> int:
        """Candidates per task run of a stage with so many programs: few enough task runs for the Prefect server and its UI."""
        if self.chunk_size is not None:
            return self.chunk_size
        return max(_CHUNK, -(-programs // max(_TASK_RUNS, 4 * self.workers)))
