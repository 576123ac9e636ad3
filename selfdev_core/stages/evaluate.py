"""Stage: merged models and plain models answer questions. Each scorecard is stored as soon as it exists.

A scorecard's key holds the algorithm, the model set, the block of questions with its split, the decoding and the
grader's version: the same algorithm on the same models and questions is never evaluated twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from selfdev_core.errors import EngineError, StoreError
from selfdev_core.evaluation.engine import answer
from selfdev_core.evaluation.grading import GRADER_VERSION, grade
from selfdev_core.evaluation.questions import QuestionBlock
from selfdev_core.records import Cost, EvaluateManifest, Scorecard, digest_of
from selfdev_core.stages.jobs import EvaluateJob, Program
from selfdev_core.stages.merge import merge_to_scratch, scratch_file
from selfdev_core.store.references import Reference
from selfdev_core.workspace import Workspace

NAME, VERSION = "evaluate", 1_000 * GRADER_VERSION + 1


def evaluate(job: EvaluateJob, workspace: Workspace) -> EvaluateManifest:
    """One scorecard per program, then one per plain model, in order.

    Raises: StoreError when the questions are not in the store.
    """
    began = time.monotonic()
    block = workspace.store.read("questions", job.questions.sha256, QuestionBlock)
    if block is None or block.digest != job.questions.sha256:
        raise StoreError(f"questions {job.questions.sha256[:12]} are not in the store; run the campaign again")
    cards, key, models = [], _keys(job), job.models.digest
    for program in job.programs:
        cards.append(
            _scorecard(key(program.algorithm_id, models), program.algorithm_id, job, block, workspace, program)
        )
        workspace.progress.best(cards[-1].score if job.questions.split == "search" else 0.0)
        workspace.progress.advance()
    for model in job.plain:
        folder = workspace.folder(model.sha256)
        cards.append(_scorecard(key(model.name, model.sha256), model.name, job, block, workspace, folder=folder))
        workspace.progress.advance()
    cost = Cost(
        seconds=time.monotonic() - began,
        programs=len(job.programs),
        questions=len(cards) * job.questions.count,
        tokens=sum(card.tokens for card in cards),
    )
    return EvaluateManifest(scorecards=tuple(cards), cost=cost)


def references(job: EvaluateJob) -> list[Reference]:
    """Records that this job makes or finds."""
    key, models = _keys(job), job.models.digest
    programs = [key(program.algorithm_id, models) for program in job.programs]
    plain = [key(model.name, model.sha256) for model in job.plain]
    return [Reference("scorecards", one) for one in (*programs, *plain)]


def _keys(job: EvaluateJob) -> Callable[[str, str], str]:
    """What makes the key of (subject, digest of its models); the job's own digests are made once, not for every program."""
    questions, decoding = job.questions.digest, job.decoding.digest
    return lambda subject, models: digest_of([NAME, VERSION, subject, models, questions, decoding, GRADER_VERSION])


def _scorecard(
    key: str,
    subject: str,
    job: EvaluateJob,
    block: QuestionBlock,
    workspace: Workspace,
    program: Program | None = None,
    folder: Path | None = None,
) -> Scorecard:
    def compute() -> Scorecard:
        weights = None
        if program is not None:
            weights = scratch_file(program, job.models, workspace)
            if not weights.is_file():
                again = merge_to_scratch(program, job.models, job.limits, workspace).verdict
                if not again.accepted:
                    raise EngineError(
                        f"program {subject} merged before but now fails ({again.reason}, {again.detail}); raise "
                        "sandbox.seconds or lower resources.workers, and run the same command again"
                    )
        try:
            return _answer(subject, job, block, workspace, folder or workspace.folder(job.models.seed.sha256), weights)
        finally:
            if weights is not None:
                weights.unlink(missing_ok=True)

    def amount(card: Scorecard) -> Cost:
        return Cost(programs=int(program is not None), questions=len(card.outcomes), tokens=card.tokens)

    return workspace.remember(NAME, "scorecards", key, Scorecard, compute, amount)


def _answer(
    subject: str, job: EvaluateJob, block: QuestionBlock, workspace: Workspace, folder: Path, weights: Path | None
) -> Scorecard:
    began = time.monotonic()
    prompts = [job.decoding.template.replace("{question}", item.question) for item in block.items]
    answers = workspace.pool.call(
        answer,
        str(folder),
        str(weights) if weights else None,
        prompts,
        job.decoding.max_new_tokens,
        job.decoding.batch_size,
    )
    outcomes = tuple(grade(text, item.answer) for (text, _), item in zip(answers, block.items, strict=True))
    return Scorecard(
        subject=subject,
        split=block.split,
        questions_sha256=block.digest,
        outcomes=outcomes,
        tokens=sum(tokens for _, tokens in answers),
        seconds=time.monotonic() - began,
    )
