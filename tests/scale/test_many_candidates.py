"""The benchmark of many candidates measures a real iteration: every program has its records, and few task runs."""

from __future__ import annotations

import pytest

from benchmarks.durability_scale import one_iteration


@pytest.mark.slow
def test_an_iteration_with_a_trivial_evaluator_is_measured_whole() -> None:
    row = one_iteration(80)
    assert row["records"]["scorecards"] == 80
    assert row["records"]["verdicts"] == 80 + 8  # the validity guard's samples too
    # generate, pairs and train, and three stages in chunks of at most 16 for two workers
    assert row["task_runs"] == row["graph_nodes"] == row["records"]["task-results"] == 2 + 3 * 6 + 2
    assert all(seconds > 0 for seconds in row["cpu_seconds"].values())
    assert row["peak_mb"] > max(row["peak_mb_of"].values()) > 50
