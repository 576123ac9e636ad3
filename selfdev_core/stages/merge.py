"""Stage: programs are run on the real task vectors and added to the seed.

The merged tensors go to scratch space, where `evaluate` finds them, as long as there is room (`scratch_gb`); for what is
not there it merges again, since program and models give the same tensors at any time. What is kept is the digest of the merged
weights, or the reason why there are none.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

from selfdev_core.errors import StoreError
from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.merging.merge import merge_into, merged_specs
from selfdev_core.records import Cost, Merged, MergeManifest, ModelSet, digest_of
from selfdev_core.stages.jobs import MergeJob, Program
from selfdev_core.tensors.mapped import DTYPES
from selfdev_core.tensors.written import Spec, TensorFile
from selfdev_core.workspace import Limits, Workspace

NAME, VERSION = "merge", 1


def merge(job: MergeJob, workspace: Workspace) -> MergeManifest:
    """One merged model, or one verdict, per program, in order."""
    began = time.monotonic()
    merged = []
    for program in job.programs:
        merged.append(merge_to_scratch(program, job.models, job.limits, workspace, room=workspace.settings.scratch_gb))
        workspace.progress.advance()
    cost = Cost(seconds=time.monotonic() - began, programs=len(merged))
    return MergeManifest(merged=tuple(merged), cost=cost)


def scratch_file(program: Program, models: ModelSet, workspace: Workspace) -> Path:
    return workspace.scratch / f"{models.digest[:16]}-{program.algorithm_id}.safetensors"


def merge_to_scratch(
    program: Program, models: ModelSet, limits: Limits, workspace: Workspace, room: float | None = None
) -> Merged:
    """Merge one program and leave its tensors in scratch space for `evaluate`, unless that holds over `room` GiB of them."""
    key = digest_of([NAME, VERSION, models.digest, limits.digest, program.algorithm_id])
    with workspace.counted(NAME, key, device=limits.device) as work:
        seed = Checkpoint(workspace.folder(models.seed.sha256))
        specs = merged_specs(seed, models.scope)
        runner = workspace.merger(models, limits)
        path = scratch_file(program, models, workspace)
        if room is not None and _is_full(workspace, specs, room):
            record = merge_into(None, program.algorithm_id, program.source, seed, runner)
        else:
            try:
                with TensorFile(path, specs) as file:
                    record = merge_into(file, program.algorithm_id, program.source, seed, runner)
                    if not record.verdict.accepted:
                        file.discard()
            except OSError as error:
                raise StoreError(
                    f"{path}: merged weights cannot be written ({error}); free some space for TMPDIR"
                ) from error
        work.amount = Cost(programs=1)
    return record


def _is_full(workspace: Workspace, specs: dict[str, Spec], room: float) -> bool:
    """Whether scratch space holds no more such weights: those of one campaign are all of one size."""
    waiting = sum(name.endswith(".safetensors") for name in os.listdir(workspace.scratch))
    size = sum(DTYPES[spec.dtype][1] * math.prod(spec.shape) for spec in specs.values())
    return (waiting + 1) * size > room * 2**30
