"""Stage: the factory writes programs."""

from __future__ import annotations

import time

from selfdev_core.algorithm.canonical import algorithm_id
from selfdev_core.algorithm.prompt import program_of
from selfdev_core.records import Cost, GenerateManifest, Sample
from selfdev_core.stages.jobs import GenerateJob, key_of
from selfdev_core.store.references import Reference
from selfdev_core.workspace import Workspace

NAME, VERSION = "generate", 2


def generate(job: GenerateJob, workspace: Workspace) -> GenerateManifest:
    """Sample `job.count` programs; each gets its algorithm id."""
    key = key_of(NAME, VERSION, job)
    return workspace.remember(
        NAME, "generated", key, GenerateManifest, lambda: _sample(job, workspace), lambda made: made.cost
    )


def references(job: GenerateJob) -> list[Reference]:
    """Records that this job makes or finds."""
    return [Reference("generated", key_of(NAME, VERSION, job))]


def _sample(job: GenerateJob, workspace: Workspace) -> GenerateManifest:
    began = time.monotonic()
    folders = workspace.factory(job.factory)
    drawn = workspace.engine.sample(
        folders.model,
        job.prompt,
        job.count,
        temperature=job.temperature,
        top_p=job.top_p,
        seed=job.seed + job.start,
        max_new_tokens=job.max_new_tokens,
        batch_size=job.batch_size,
        adapter=folders.adapter,
    )
    samples = []
    for offset, one in enumerate(drawn):
        source = program_of(job.prompt, one.text)
        samples.append(
            Sample(
                algorithm_id=algorithm_id(source),
                source=source,
                index=job.start + offset,
                tokens=one.tokens,
                finished=one.finished,
            )
        )
    tokens = sum(one.tokens for one in drawn)
    cost = Cost(seconds=time.monotonic() - began, programs=len(drawn), tokens=tokens)
    return GenerateManifest(samples=tuple(samples), temperature=job.temperature, cost=cost)
