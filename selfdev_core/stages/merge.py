"""Stage: programs are run on the real task vectors and added to the seed.

The merged tensors go to scratch space, where `evaluate` finds them; they are not kept, since program and models give
them back at any time. What is kept is the digest of the merged weights, or the reason why there are none.
"""

from __future__ import annotations

import time
from pathlib import Path

from selfdev_core.errors import StoreError
from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.merging.merge import merge as merge_program
from selfdev_core.records import Cost, Merged, MergeManifest, ModelSet
from selfdev_core.stages.jobs import MergeJob, Program
from selfdev_core.workspace import Limits, Workspace

NAME, VERSION = "merge", 1


def merge(job: MergeJob, workspace: Workspace) -> MergeManifest:
    """One merged model, or one verdict, per program, in order."""
    began = time.monotonic()
    merged = []
    for program in job.programs:
        merged.append(merge_to_scratch(program, job.models, job.limits, workspace))
        workspace.progress.advance()
    cost = Cost(seconds=time.monotonic() - began, programs=len(merged))
    return MergeManifest(merged=tuple(merged), cost=cost)


def scratch_file(program: Program, models: ModelSet, workspace: Workspace) -> Path:
    return workspace.scratch / f"{models.digest[:16]}-{program.algorithm_id}.safetensors"


def merge_to_scratch(program: Program, models: ModelSet, limits: Limits, workspace: Workspace) -> Merged:
    """Merge one program and leave its tensors in scratch space for `evaluate`."""
    from safetensors.torch import save_file

    seed = Checkpoint(workspace.folder(models.seed.sha256))
    record, tensors = merge_program(program.algorithm_id, program.source, seed, workspace.merger(models, limits))
    if tensors:
        path = scratch_file(program, models, workspace)
        try:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
        except Exception as error:
            path.unlink(missing_ok=True)
            raise StoreError(
                f"{path}: merged weights cannot be written ({error}); free some space for TMPDIR"
            ) from error
    return record
