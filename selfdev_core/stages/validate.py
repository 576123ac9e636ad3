"""Stage: programs are checked and run on probes. Each verdict is stored as soon as it exists."""

from __future__ import annotations

import time
from collections.abc import Callable

from selfdev_core.algorithm.contract import CONTRACT_VERSION
from selfdev_core.records import Cost, ValidateManifest, Verdict, digest_of
from selfdev_core.sandbox.validate import validate as validate_program
from selfdev_core.stages.jobs import ValidateJob
from selfdev_core.store.references import Reference
from selfdev_core.workspace import Workspace

NAME, VERSION = "validate", 1_000 * CONTRACT_VERSION + 3


def validate(job: ValidateJob, workspace: Workspace) -> ValidateManifest:
    """One verdict per program, in order."""
    began = time.monotonic()
    sandbox = workspace.sandbox(job.models, job.limits)
    verdicts, key = [], _keys(job)
    for program in job.programs:

        def compute(program_id: str = program.algorithm_id, source: str = program.source) -> Verdict:
            return validate_program(program_id, source, sandbox)

        algorithm_key = key(program.algorithm_id)
        verdicts.append(
            workspace.remember(NAME, "verdicts", algorithm_key, Verdict, compute, lambda _: Cost(programs=1))
        )
        workspace.progress.advance()
    cost = Cost(seconds=time.monotonic() - began, programs=len(verdicts))
    return ValidateManifest(verdicts=tuple(verdicts), cost=cost)


def references(job: ValidateJob) -> list[Reference]:
    """Records that this job makes or finds."""
    key = _keys(job)
    return [Reference("verdicts", key(program.algorithm_id)) for program in job.programs]


def _keys(job: ValidateJob) -> Callable[[str], str]:
    """What makes the key of an algorithm id; the job's own digests are made once, not for every program."""
    models, limits = job.models.digest, job.limits.digest
    return lambda algorithm_id: digest_of([NAME, VERSION, CONTRACT_VERSION, models, limits, algorithm_id])
