"""Merging programs and evaluating what comes of them: all at once, or by turns where merged models are big."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfdev_core.records import EvaluateManifest, MergeManifest, ModelRef, QuestionSet, Verdict
from selfdev_core.stages.executor import EVALUATE, MERGE, Executor
from selfdev_core.stages.jobs import EvaluateJob, MergeJob, Program, chunks
from selfdev_core.stages.merge import at_once
from selfdev_core.workspace import Workspace

if TYPE_CHECKING:
    from selfdev_core.iteration import CampaignPlan


def merge_and_evaluate(
    plan: CampaignPlan, who: str, programs: list[Program], executor: Executor, workspace: Workspace
) -> tuple[list[MergeManifest], list[EvaluateManifest]]:
    """All programs at once; where merged models are too big to wait, as many at a time as may, so that none is merged twice.

    `who`: begins the names of the stages that are shown. A program that fails on the real tensors is not evaluated.
    On Ray no merged model waits, since another node may evaluate it.
    """
    resources = plan.config.resources
    size = 0 if workspace.settings.ray else at_once(plan.models, workspace)
    starts = range(0, len(programs), size or len(programs)) if programs else [0]
    parts = [programs[start : start + size] if size else programs for start in starts]
    merged: list[MergeManifest] = []
    answered: list[EvaluateManifest] = []
    if len(parts) > 1:
        workspace.progress.stage(f"{who}merge and evaluate", 2 * len(programs))
    for part in parts:
        if len(parts) == 1:
            workspace.progress.stage(f"{who}merge", len(part))
        jobs = [
            MergeJob(models=plan.models, limits=plan.limits, programs=chunk)
            for chunk in chunks(part, resources.chunk_for(len(part)), resources.workers)
        ]
        made = executor.map(MERGE, jobs)
        failed = failures(made)
        chosen = [program for program in part if program.algorithm_id not in failed]
        if len(parts) == 1:
            workspace.progress.stage(f"{who}evaluate", len(chosen))
        merged += made
        answered += executor.map(EVALUATE, evaluate_jobs(plan, chosen, plan.search, resources.chunk_for(len(chosen))))
    return merged, answered


def failures(merged: list[MergeManifest]) -> dict[str, Verdict]:
    """Algorithm id → verdict of programs that fail on the real tensors."""
    return {one.algorithm_id: one.verdict for made in merged for one in made.merged if not one.verdict.accepted}


def evaluate_jobs(
    plan: CampaignPlan, programs: list[Program], questions: QuestionSet, size: int, plain: tuple[ModelRef, ...] = ()
) -> list[EvaluateJob]:
    """Chunks of programs, and each plain model by itself, to score on a block of questions."""

    def job(chunk: tuple[Program, ...], models: tuple[ModelRef, ...]) -> EvaluateJob:
        return EvaluateJob(
            models=plan.models,
            limits=plan.limits,
            questions=questions,
            decoding=plan.decoding,
            programs=chunk,
            plain=models,
        )

    parts = chunks(programs, size, plan.config.resources.workers)
    return [job(part, ()) for part in parts] + [job((), (model,)) for model in plain]
