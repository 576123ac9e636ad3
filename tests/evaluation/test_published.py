"""The real data: published accuracies are met, and gold solutions are right. SELFDEV_DATA names the folder that holds it.

It holds gsm8k/ (train.jsonl, test.jsonl, example_model_solutions.jsonl) and math/ (test.jsonl).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from selfdev_core.asking import QuestionsConfig
from selfdev_core.evaluation.benchmarks.gsm8k import GSM8K
from selfdev_core.evaluation.benchmarks.math import MATH
from selfdev_core.evaluation.graders import grader_of, number
from selfdev_core.evaluation.graders.pool import GraderPool
from selfdev_core.evaluation.sources import QuestionSource

DATA = Path(os.environ.get("SELFDEV_DATA", "/nowhere"))
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="SELFDEV_DATA names no folder with gsm8k/ and math/")
PUBLISHED = {"6b_finetuning": 21.68, "6b_verification": 39.04, "175b_finetuning": 34.72, "175b_verification": 56.25}


@pytest.mark.parametrize("model", PUBLISHED)
def test_a_published_accuracy_is_met_within_fifteen_hundredths_of_a_point(model: str) -> None:
    text = (DATA / "gsm8k" / "example_model_solutions.jsonl").read_text(encoding="utf-8")
    answers = [json.loads(line) for line in text.splitlines()]
    references = {row.question: row.answer for row in GSM8K.rows("test", DATA / "gsm8k", None)}
    assert len(answers) == len(references) == 1319
    marks = [number.grade(row[model]["solution"], references[row["question"].strip()]) for row in answers]
    right = [one["flexible"] == "right" for one in marks]
    assert abs(100 * sum(right) / 1319 - PUBLISHED[model]) <= 0.15
    assert right == [row[model]["is_correct"] for row in answers]


def test_gold_solutions_of_gsm8k_are_right_by_both_readings() -> None:
    gold = [row.answer for part in ("train", "test") for row in GSM8K.rows(part, DATA / "gsm8k", None)]  # type: ignore[arg-type]
    assert len(gold) == 8792
    assert [text for text in gold if set(number.grade(text, text).values()) != {"right"}] == []


@pytest.mark.slow
def test_gold_solutions_of_math_are_right() -> None:
    gold = [row.answer for row in MATH.rows("test", DATA / "math", None)]
    assert len(gold) == 5000
    pool = GraderPool(os.cpu_count() or 1)
    try:
        marks = pool.grade(grader_of("math", "flexible"), [(text, text) for text in gold])
    finally:
        pool.close()
    assert sum(one["flexible"] == "right" for one in marks) >= 0.995 * 5000
    assert sum(one["strict"] == "right" for one in marks) >= 0.995 * 5000


def test_the_papers_splits_of_the_real_benchmarks() -> None:
    gsm8k = QuestionsConfig(
        benchmark="gsm8k", path=DATA / "gsm8k", split_rule="paper", search=100, validation=256, test=1219
    )
    source = QuestionSource(gsm8k)
    blocks = [source.block(split) for split in ("search", "validation", "test")]  # type: ignore[arg-type]
    assert [len(block.items) for block in blocks] == [100, 256, 1219]
    assert len({item.question for block in blocks for item in block.items}) == 1575
    math = QuestionsConfig(
        benchmark="math", path=DATA / "math", split_rule="test-only", shots=0, search=600, validation=400, test=4000
    )
    assert [len(QuestionSource(math).block(split).items) for split in ("search", "test")] == [600, 4000]  # type: ignore[arg-type]
