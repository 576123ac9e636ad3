"""From answers to a scorecard: cut at the stops, graded, counted in every way that the grader reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from selfdev_core.evaluation.decoding import Decoding
from selfdev_core.evaluation.graders.pool import GraderPool
from selfdev_core.evaluation.graders.spec import Marks
from selfdev_core.evaluation.questions import QuestionBlock
from selfdev_core.records import QuestionSet, Scorecard, Tally


def scorecard_of(
    subject: str,
    questions: QuestionSet,
    block: QuestionBlock,
    answers: Sequence[str],
    decoding: Decoding,
    graders: GraderPool,
) -> Scorecard:
    """The scorecard of what a model wrote to each question of a block, in order; tokens and seconds are 0.

    `questions` is the reference to the block: its digest is known there, and is not made again for every model.
    """
    pairs = [(decoding.answer(text), item.answer) for text, item in zip(answers, block.items, strict=True)]
    marks = graders.grade(decoding.grader, pairs)
    return Scorecard(
        subject=subject,
        split=block.split,
        questions_sha256=questions.sha256,
        outcomes=tuple(one[decoding.grader.extraction] for one in marks),
        tallies=tallies_of(marks),
        tokens=0,
        seconds=0.0,
    )


def tallies_of(marks: Sequence[Marks]) -> dict[str, Tally]:
    """Counts by way of reading; empty for a grader that reads in one way."""
    made = {}
    for way in sorted({name for one in marks for name in one if name}):
        counts = Counter(one[way] for one in marks)
        made[way] = Tally(right=counts["right"], wrong=counts["wrong"], unparsable=counts["unparsable"])
    return made
