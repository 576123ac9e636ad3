"""Stage: DPO trains the factory; the validity guard decides how much of the update is kept."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import NamedTuple

from selfdev_core.preference.adapters import shorten_adapter
from selfdev_core.preference.dpo import Update, shorten_update, train_factory
from selfdev_core.preference.saves import saves_of
from selfdev_core.records import Cost, FactoryRef, GenerateManifest, TrainManifest
from selfdev_core.stages.generate import VERSION as DRAWING
from selfdev_core.stages.generate import generate
from selfdev_core.stages.jobs import Program, TrainJob, ValidateJob, key_of
from selfdev_core.stages.validate import VERSION as CHECKING
from selfdev_core.stages.validate import validate
from selfdev_core.store.references import Reference
from selfdev_core.workspace import Workspace

# The guard draws and checks programs: what that gives is part of what a training gives.
NAME, VERSION = "train", 1_000_000 * DRAWING + 10 * CHECKING + 2
STEP_SHARES = (1.0, 0.5, 0.25)


def train(job: TrainJob, workspace: Workspace) -> TrainManifest:
    """The next factory (or the same one when the guard refused every step), its checkpoint in the store.

    When another process stored one for the same job first, that one counts.
    """
    key = key_of(NAME, VERSION, job)
    known = workspace.remembered("trained", key, TrainManifest)
    if known is not None and workspace.holds(known.factory.sha256):
        workspace.ledger.hit(NAME, key)
        return known
    lost = known is not None or workspace.was_damaged("trained", key)
    with workspace.counted(NAME, key, remade=lost) as work:
        made = _train(job, workspace)
        if not lost:  # on a GPU two trainings of one job differ, and a campaign goes on from one of them
            counts = workspace.store.add("trained", key, made)
            if counts is made:
                return made
            if workspace.holds(counts.factory.sha256):
                work.raced = True
                return counts
        workspace.store.write("trained", key, made)
    return made


def references(job: TrainJob) -> list[Reference]:
    """Records that this job makes or finds; the factory's checkpoint is known only afterwards."""
    return [Reference("trained", key_of(NAME, VERSION, job))]


def _train(job: TrainJob, workspace: Workspace) -> TrainManifest:
    began = time.monotonic()
    out = workspace.scratch / f"factory-{job.digest[:16]}"
    shutil.rmtree(out, ignore_errors=True)
    workspace.engine.make_room()
    before = workspace.factory(job.factory)
    try:
        with saves_of(job.digest[:32]) as saves:
            update = Update(
                folder=str(before.model),
                adapter=str(before.adapter or ""),
                out=str(out),
                settings=job.settings.model_dump(mode="json"),
                seed=job.seed,
                saves=saves,
                save_steps=workspace.settings.save_steps,
            )
            pairs = [(pair.chosen, pair.rejected) for pair in job.pairs]
            training = workspace.pool.call(train_factory, update, job.prompt, pairs, worker=0)
            workspace.progress.advance()
            factory, share, valid, drawn = _longest_valid_step(job, out, workspace)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    return TrainManifest(
        factory=factory,
        step_share=share,
        valid_share=valid,
        losses=tuple(training.losses),
        reward_margins=tuple(training.reward_margins),
        cost=Cost(seconds=time.monotonic() - began, programs=drawn.programs, tokens=drawn.tokens),
    )


class _Kept(NamedTuple):
    """What the guard let through: the factory, the share of the update that it took, the share of its fresh samples that
    are valid, and the programs and tokens drawn to find that out."""

    factory: FactoryRef
    step_share: float
    valid_share: float
    drawn: Cost


def _longest_valid_step(job: TrainJob, trained: Path, workspace: Workspace) -> _Kept:
    """The validity guard: the whole update, or half or a quarter of it, or none; the first whose samples are valid enough."""
    before, lora = workspace.factory(job.factory), job.settings.method == "lora"
    valid, drawn = 0.0, Cost()
    for share in STEP_SHARES:
        if share == 1.0:
            sha256 = workspace.keep_checkpoint(trained)
        else:
            folder = trained.with_name(f"{trained.name}-{share:g}")
            shorten, whole = (shorten_adapter, before.adapter or "") if lora else (shorten_update, before.model)
            try:
                workspace.pool.call(shorten, str(whole), str(trained), share, str(folder), worker=0)
                sha256 = workspace.keep_checkpoint(folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        base = (job.factory.base or job.factory.sha256) if lora else ""
        factory = FactoryRef(sha256=sha256, parent=job.factory.sha256, base=base)
        fresh = generate(job.guard.model_copy(update={"factory": factory}), workspace)
        drawn += fresh.cost
        valid = _valid_share(job, fresh, workspace)
        if valid >= job.settings.min_valid_share:
            return _Kept(factory, share, valid, drawn)
    return _Kept(job.factory, 0.0, valid, drawn)


def _valid_share(job: TrainJob, fresh: GenerateManifest, workspace: Workspace) -> float:
    """Share of valid programs among fresh samples of the new factory."""
    programs = tuple(Program(algorithm_id=s.algorithm_id, source=s.source) for s in fresh.samples)
    verdicts = validate(ValidateJob(models=job.models, limits=job.limits, programs=programs), workspace).verdicts
    return sum(verdict.accepted for verdict in verdicts) / len(verdicts)
