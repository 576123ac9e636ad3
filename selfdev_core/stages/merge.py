"""Stage: programs are run on the real task vectors and added to the seed.

The merged tensors go to scratch space, where `evaluate` finds them, as long as there is room; for what is not there it
merges again, since program and models give the same tensors at any time. What is stored, per program and as soon as it is
known, is the digest of the merged weights, or the reason why there are none.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from selfdev_core.algorithm.contract import CONTRACT_VERSION
from selfdev_core.errors import EngineError, StoreError
from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.merging.merge import Target, merge_into, merged_specs
from selfdev_core.records import Cost, Merged, MergeManifest, ModelSet, digest_of
from selfdev_core.stages.jobs import MergeJob, Program
from selfdev_core.store.references import Reference
from selfdev_core.tensors.mapped import DTYPES
from selfdev_core.tensors.written import TensorFile
from selfdev_core.workspace import Limits, Workspace

NAME, VERSION = "merge", 1_000 * CONTRACT_VERSION + 3
PATIENCE = 4  # times the limit of seconds for a program that kept to it once


def merge(job: MergeJob, workspace: Workspace) -> MergeManifest:
    """One merged model, or one verdict, per program, in order."""
    began = time.monotonic()
    merged, key, most = [], _keys(job.models, job.limits), at_once(job.models, workspace)
    seed = _seed(job.models, workspace)
    for program in job.programs:
        room = _waiting(workspace) < most
        merged.append(_remembered(program, key(program), seed, job.models, job.limits, workspace, into_scratch=room))
        workspace.progress.advance()
    cost = Cost(seconds=time.monotonic() - began, programs=len(merged))
    return MergeManifest(merged=tuple(merged), cost=cost)


def references(programs: Iterable[Program], models: ModelSet, limits: Limits) -> list[Reference]:
    """Records that the merging of these programs makes or finds."""
    key = _keys(models, limits)
    return [Reference("merged", key(program)) for program in programs]


def merged_weights(program: Program, models: ModelSet, limits: Limits, workspace: Workspace) -> Path:
    """The merged tensors as a safetensors file in scratch space, made (again) if they are not there; the caller removes it.

    A program whose verdict is known gets `PATIENCE` times the seconds on a busy machine before it is given up.
    Raises: EngineError when the program does not merge.
    """
    path = scratch_file(program, models, workspace)
    if path.is_file():
        return path
    key, seed = _keys(models, limits)(program), _seed(models, workspace)
    record = _remembered(program, key, seed, models, limits, workspace, into_scratch=True)
    if record.verdict.accepted and not path.is_file():
        with workspace.counted(NAME, key, device=limits.device, remade=True) as work:
            for seconds in (limits.seconds, PATIENCE * limits.seconds):
                longer = limits.model_copy(update={"seconds": seconds})
                record = _merge(program, seed, models, longer, workspace, into_scratch=True)
                if record.verdict.accepted:
                    break
            work.amount = Cost(programs=1)
    if not record.verdict.accepted:
        raise EngineError(
            f"program {program.algorithm_id} does not merge ({record.verdict.reason}, {record.verdict.detail}); if the machine "
            "is to blame, raise sandbox.seconds or lower resources.workers, and run the same command again"
        )
    return path


def _remembered(
    program: Program,
    key: str,
    seed: Checkpoint,
    models: ModelSet,
    limits: Limits,
    workspace: Workspace,
    into_scratch: bool,
) -> Merged:
    return workspace.remember(
        NAME,
        "merged",
        key,
        Merged,
        lambda: _merge(program, seed, models, limits, workspace, into_scratch),
        lambda _: Cost(programs=1),
        device=limits.device,
    )


def scratch_file(program: Program, models: ModelSet, workspace: Workspace) -> Path:
    return workspace.scratch / f"{models.digest[:16]}-{program.algorithm_id}.safetensors"


def at_once(models: ModelSet, workspace: Workspace) -> int:
    """How many merged models may wait in scratch space for their evaluation: `scratch_gb` of them, at least one per worker;
    none where `scratch_gb` is 0."""
    if not workspace.settings.scratch_gb:
        return 0
    specs = merged_specs(_seed(models, workspace), models.scope).values()
    size = sum(DTYPES[spec.dtype][1] * math.prod(spec.shape) for spec in specs)
    return max(workspace.settings.workers, int(workspace.settings.scratch_gb * 2**30 / size))


def _waiting(workspace: Workspace) -> int:
    """How many merged models wait in scratch space."""
    return sum(name.endswith(".safetensors") for name in os.listdir(workspace.scratch))


def _seed(models: ModelSet, workspace: Workspace) -> Checkpoint:
    return Checkpoint(workspace.folder(models.seed.sha256))


def _merge(
    program: Program, seed: Checkpoint, models: ModelSet, limits: Limits, workspace: Workspace, into_scratch: bool
) -> Merged:
    runner = workspace.merger(models, limits)

    def merge_it(target: Target | None) -> Merged:
        record = merge_into(target, program.algorithm_id, program.source, seed, runner)
        workspace.unchanged(models.seed.sha256, *(ref.sha256 for ref in models.experts))
        return record

    if not into_scratch:
        return merge_it(None)
    path = scratch_file(program, models, workspace)
    try:
        with TensorFile(path, merged_specs(seed, models.scope)) as file:
            record = merge_it(file)
            if not record.verdict.accepted:
                file.discard()
            return record
    except OSError as error:
        raise StoreError(f"{path}: merged weights cannot be written ({error}); free some space for TMPDIR") from error


def _keys(models: ModelSet, limits: Limits) -> Callable[[Program], str]:
    """What makes the key of a program; the digests of the rest are made once."""
    of, within = models.digest, limits.digest
    return lambda program: digest_of([NAME, VERSION, of, within, program.algorithm_id])
