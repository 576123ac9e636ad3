r"""MATH: competition problems of seven subjects, 7,500 train and 5,000 test (Hendrycks et al. 2021, arXiv 2103.03874; MIT).

Solutions end in `\boxed{}`. The Hub's copy has a folder for each subject.
"""

from __future__ import annotations

from selfdev_core.evaluation.benchmarks.dataset import DatasetBenchmark

MATH = DatasetBenchmark(
    hub_id="EleutherAI/hendrycks_math",
    revision="21a5633873b6a120296cce3e2df9d5550074f4a3",
    folders=(
        "algebra",
        "counting_and_probability",
        "geometry",
        "intermediate_algebra",
        "number_theory",
        "prealgebra",
        "precalculus",
    ),
    question_field="problem",
    answer_field="solution",
    group_field="type",
    template="Problem:\n{question}\n\nSolution:",
    stop=("\nProblem:",),
    grader="math",
    max_new_tokens=1024,
)
