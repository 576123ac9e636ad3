"""A slot of the server's `gpu` limit for stages that compute on a GPU, so that campaigns that share GPUs take turns.

The slot is taken inside the stage's body: a cached task never waits for one. Without a GPU nothing is asked of the server,
and a server that has no such limit (`selfdev deploy` makes it) lets everybody through.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.concurrency.sync import concurrency

from selfdev_core.engines.config import EngineConfig
from selfdev_core.records import Record
from selfdev_core.stages.executor import EVALUATE, GENERATE, TRAIN
from selfdev_core.stages.jobs import MergeJob

LIMIT = "gpu"
LEASE_SECONDS = 60.0  # a killed stage gives its slot back after so long
_MODELS = frozenset({GENERATE.name, EVALUATE.name, TRAIN.name})  # their models go to a GPU when there is one


def computes_on_gpu(stage: str, job: Record, engine: EngineConfig) -> bool:
    """Whether this job will use a GPU here: its models when torch sees one and the engine may have it, its merges when
    `sandbox.device` says so."""
    if stage in _MODELS:
        if engine.no_gpu and stage != TRAIN.name:
            return False
        import torch

        return torch.cuda.is_available()
    return isinstance(job, MergeJob) and job.limits.device != "cpu"


@contextmanager
def gpu_slot(wanted: bool) -> Iterator[None]:
    """Hold one slot while inside, when `wanted`; waits as long as it takes. A lost lease does not stop the work."""
    if not wanted:
        yield
        return
    with concurrency(LIMIT, occupy=1, lease_duration=LEASE_SECONDS, raise_on_lease_renewal_failure=False):
        yield
