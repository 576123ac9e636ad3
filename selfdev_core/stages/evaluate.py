"""Stage: merged models and plain models answer questions. Each scorecard is stored as soon as it exists.

A scorecard's key holds the algorithm, the model set, the block of questions with its split, and the decoding: prompt with
worked examples and chat template, answer length, grader and its version. The same algorithm on the same models and questions is
never evaluated twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from selfdev_core.algorithm.contract import CONTRACT_VERSION
from selfdev_core.errors import StoreError
from selfdev_core.evaluation.decoding import Decoding
from selfdev_core.evaluation.questions import QuestionBlock
from selfdev_core.evaluation.scoring import scorecard_of
from selfdev_core.records import Cost, EvaluateManifest, ModelRef, QuestionSet, Scorecard, digest_of
from selfdev_core.stages import merge
from selfdev_core.stages.jobs import EvaluateJob, Program
from selfdev_core.store.references import Reference
from selfdev_core.workspace import Workspace

NAME, VERSION = "evaluate", 1_000 * CONTRACT_VERSION + 4


def evaluate(job: EvaluateJob, workspace: Workspace) -> EvaluateManifest:
    """One scorecard per program, then one per plain model, in order.

    Raises: StoreError when the questions are not in the store.
    """
    began = time.monotonic()
    block = questions_of(job.questions, workspace)
    cards, key, models = [], _keys(job.questions, job.decoding), job.models.digest
    for program in job.programs:
        cards.append(_program_scorecard(program, key(program.algorithm_id, models), job, block, workspace))
        workspace.progress.best(cards[-1].score if job.questions.split == "search" else 0.0)
        workspace.progress.advance()
    for model in job.plain:
        cards.append(model_scorecard(model, job.questions, job.decoding, block, workspace))
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
    key, models = _keys(job.questions, job.decoding), job.models.digest
    programs = [key(program.algorithm_id, models) for program in job.programs]
    plain = [key(model.name, model.sha256) for model in job.plain]
    cards = [Reference("scorecards", one) for one in (*programs, *plain)]
    return cards + merge.references(job.programs, job.models, job.limits)


def questions_of(questions: QuestionSet, workspace: Workspace) -> QuestionBlock:
    """The block that a reference stands for. Raises: StoreError when it is not in the store."""
    block = workspace.store.read("questions", questions.sha256, QuestionBlock)
    if block is None or block.digest != questions.sha256:
        raise StoreError(f"questions {questions.sha256[:12]} are not in the store; run the campaign again")
    return block


def model_scorecard(
    model: ModelRef, questions: QuestionSet, decoding: Decoding, block: QuestionBlock, workspace: Workspace
) -> Scorecard:
    """The stored scorecard of a plain model, or a new one, stored."""

    def compute() -> Scorecard:
        folder = workspace.folder(model.sha256)
        card = _answered(model.name, questions, decoding, block, workspace, folder, None)
        workspace.unchanged(model.sha256)
        return card

    def amount(card: Scorecard) -> Cost:
        return Cost(questions=len(card.outcomes), tokens=card.tokens)

    key = _keys(questions, decoding)(model.name, model.sha256)
    return workspace.remember(NAME, "scorecards", key, Scorecard, compute, amount)


def _keys(questions: QuestionSet, decoding: Decoding) -> Callable[[str, str], str]:
    """What makes the key of (subject, digest of its models); the digests of the rest are made once, not for every program."""
    asked, how = questions.digest, decoding.digest
    return lambda subject, models: digest_of([NAME, VERSION, subject, models, asked, how])


def _program_scorecard(
    program: Program, key: str, job: EvaluateJob, block: QuestionBlock, workspace: Workspace
) -> Scorecard:
    subject = program.algorithm_id

    def compute() -> Scorecard:
        weights = merge.merged_weights(program, job.models, job.limits, workspace)
        seed = workspace.folder(job.models.seed.sha256)
        card = _answered(subject, job.questions, job.decoding, block, workspace, seed, weights)
        workspace.unchanged(job.models.seed.sha256)
        return card

    def amount(card: Scorecard) -> Cost:
        return Cost(programs=1, questions=len(card.outcomes), tokens=card.tokens)

    try:
        return workspace.remember(NAME, "scorecards", key, Scorecard, compute, amount)
    finally:
        merge.scratch_file(program, job.models, workspace).unlink(missing_ok=True)


def _answered(
    subject: str,
    questions: QuestionSet,
    decoding: Decoding,
    block: QuestionBlock,
    workspace: Workspace,
    folder: Path,
    weights: Path | None,
) -> Scorecard:
    began = time.monotonic()
    prompts = [decoding.prompt(item.question) for item in block.items]
    answers = workspace.engine.answer(
        folder,
        weights,
        prompts,
        max_new_tokens=decoding.max_new_tokens,
        batch_size=decoding.batch_size,
        stop=decoding.stop,
    )
    card = scorecard_of(subject, questions, block, [text for text, _ in answers], decoding, workspace.graders)
    return card.model_copy(update={"tokens": sum(tokens for _, tokens in answers), "seconds": time.monotonic() - began})
