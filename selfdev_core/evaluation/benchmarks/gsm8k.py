"""GSM8K: grade-school word problems, 7,473 train and 1,319 test (Cobbe et al. 2021, arXiv 2110.14168; MIT licence)."""

from __future__ import annotations

from selfdev_core.evaluation.benchmarks.dataset import DatasetBenchmark

GSM8K = DatasetBenchmark(
    hub_id="openai/gsm8k",
    revision="e53f048856ff4f594e959d75785d2c2d37b678ee",
    folders=("main",),
    question_field="question",
    answer_field="answer",
    template="Question: {question}\nAnswer:",
    stop=("\nQuestion:",),
    grader="number",
    max_new_tokens=512,
)
