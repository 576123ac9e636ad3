"""Stage: programs are checked and run on probes. Each verdict is stored as soon as it exists."""

from __future__ import annotations

import time

from selfdev_core.algorithm.contract import CONTRACT_VERSION
from selfdev_core.records import Cost, ValidateManifest, Verdict, digest_of
from selfdev_core.sandbox.validate import validate as validate_program
from selfdev_core.stages.jobs import ValidateJob
from selfdev_core.workspace import Workspace

NAME, VERSION = "validate", 1_000 * CONTRACT_VERSION + 2


def validate(job: ValidateJob, workspace: Workspace) -> ValidateManifest:
    """One verdict per program, in order."""
    began = time.monotonic()
    sandbox = workspace.sandbox(job.models, job.limits)
    verdicts = []
    for program in job.programs:
        key = digest_of([NAME, VERSION, CONTRACT_VERSION, job.models.digest, job.limits.digest, program.algorithm_id])

        def compute(program_id: str = program.algorithm_id, source: str = program.source) -> Verdict:
            return validate_program(program_id, source, sandbox)

        verdicts.append(workspace.remember("verdicts", key, Verdict, compute))
        workspace.progress.advance()
    cost = Cost(seconds=time.monotonic() - began, programs=len(verdicts))
    return ValidateManifest(verdicts=tuple(verdicts), cost=cost)
