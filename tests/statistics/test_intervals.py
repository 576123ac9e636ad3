"""Intervals and tests: published values, coverage by simulation, symmetry, and the degenerate cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from selfdev_core.records import OutcomeKind, Scorecard
from selfdev_core.statistics.intervals import mcnemar_exact, mean_difference, paired_difference, wilson


def card(outcomes: list[OutcomeKind], subject: str = "a", questions: str = "q" * 64) -> Scorecard:
    return Scorecard(
        subject=subject, split="test", questions_sha256=questions, outcomes=tuple(outcomes), tokens=0, seconds=0.0
    )


def pair(both: int, only_a: int, only_b: int, neither: int) -> tuple[Scorecard, Scorecard]:
    """Two scorecards with the given four-fold table."""
    a: list[OutcomeKind] = ["right"] * (both + only_a) + ["wrong"] * (only_b + neither)
    b: list[OutcomeKind] = ["right"] * both + ["wrong"] * only_a + ["right"] * only_b + ["unparsable"] * neither
    return card(a, "a"), card(b, "b")


counts = st.integers(0, 40)


class TestWilson:
    def test_matches_published_values(self) -> None:
        # Newcombe (1998), Statistics in Medicine 17:857, table I, method 3.
        for right, total, low, high in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ]:
            found = wilson(right, total)
            assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))

    @given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
    def test_agrees_with_scipy_and_mirrors(self, case: tuple[int, int]) -> None:
        right, total = case
        found, mirror = wilson(right, total), wilson(total - right, total)
        expected = binomtest(right, total).proportion_ci(0.95, method="wilson")
        assert found.low == pytest.approx(expected.low, abs=1e-9) and found.high == pytest.approx(
            expected.high, abs=1e-9
        )
        assert 0.0 <= found.low <= found.value <= found.high <= 1.0
        assert found.low == pytest.approx(1 - mirror.high, abs=1e-12)

    def test_refuses_impossible_counts(self) -> None:
        for right, total in [(0, 0), (-1, 5), (6, 5)]:
            with pytest.raises(ValueError, match="right"):
                wilson(right, total)
        with pytest.raises(ValueError, match="level"):
            wilson(1, 2, level=1.0)


class TestPairedDifference:
    def test_matches_published_values(self) -> None:
        # Fagerland, Lydersen and Laake (2014), table V: airway reactivity, 21 children.
        found = paired_difference(*pair(1, 1, 7, 12))
        assert (round(found.value, 3), round(found.low, 3), round(found.high, 3)) == (-0.286, -0.517, -0.026)
        # The R package PropCIs, scoreci.mp(25, 28, 618) at level 0.90.
        found = paired_difference(*pair(460, 28, 25, 105), level=0.90)
        assert (round(found.low, 4), round(found.high, 4)) == (-0.0148, 0.0247)

    @pytest.mark.parametrize("questions", [1, 10, 96, 1000])
    def test_without_a_discordant_question_is_narrow_but_not_zero(self, questions: int) -> None:
        found = paired_difference(*pair(questions // 2, 0, 0, questions - questions // 2))
        z2 = 1.959963984540054**2
        assert found.value == 0.0
        assert found.high == pytest.approx(z2 / (questions + z2), abs=1e-9)
        assert found.low == -found.high

    @given(counts, counts, counts, counts)
    def test_mirrors_under_swap_and_holds_its_value(self, both: int, x: int, y: int, neither: int) -> None:
        if both + x + y + neither == 0:
            return
        a, b = pair(both, x, y, neither)
        found, mirror = paired_difference(a, b), paired_difference(b, a)
        assert (found.value, found.low, found.high) == (-mirror.value, -mirror.high, -mirror.low)
        assert -1.0 <= found.low <= found.value <= found.high <= 1.0
        assert found.value == pytest.approx(a.score - b.score, abs=1e-12)

    @given(counts, counts, counts)
    def test_is_zero_free_exactly_when_the_score_test_rejects(self, x: int, y: int, agree: int) -> None:
        # At a difference of 0 Tango's statistic is McNemar's: (b − c) / √(b + c).
        if x + y + agree == 0:
            return
        found = paired_difference(*pair(agree, x, y, 0))
        z = 1.959963984540054
        rejects = x + y > 0 and abs(x - y) / (x + y) ** 0.5 > z
        assert (found.low > 0 or found.high < 0) == rejects

    def test_widens_with_the_level(self) -> None:
        a, b = pair(20, 12, 5, 30)
        narrow, wide = paired_difference(a, b, 0.8), paired_difference(a, b, 0.99)
        assert wide.low < narrow.low < narrow.high < wide.high

    @pytest.mark.parametrize(("p_a", "p_b", "n"), [(0.15, 0.05, 96), (0.02, 0.02, 256), (0.2, 0.2, 40)])
    def test_covers_the_truth_as_often_as_it_says(self, p_a: float, p_b: float, n: int) -> None:
        generator = np.random.default_rng(5)
        hits, seen = 0, {}
        for x, y, _ in generator.multinomial(n, [p_a, p_b, 1 - p_a - p_b], size=1500):
            key = (int(x), int(y))
            if key not in seen:
                seen[key] = paired_difference(*pair(0, *key, n - sum(key)))
            hits += seen[key].low <= p_a - p_b <= seen[key].high
        assert 0.93 <= hits / 1500 <= 0.975

    def test_refuses_different_questions_by_name(self) -> None:
        a, b = card(["right"], questions="1" * 64), card(["right"], "b", questions="2" * 64)
        for function in (paired_difference, mcnemar_exact):
            with pytest.raises(ValueError, match=r"1{64}.*2{64}"):
                function(a, b)

    def test_refuses_empty_scorecards(self) -> None:
        with pytest.raises(ValueError, match="no questions"):
            paired_difference(card([]), card([]))


class TestMcNemar:
    def test_matches_published_value(self) -> None:
        # Fagerland, Lydersen and Laake (2013), BMC Med Res Methodol 13:91: same data, exact conditional test.
        assert round(mcnemar_exact(*pair(1, 1, 7, 12)), 4) == 0.0703

    @given(st.integers(0, 300), st.integers(0, 300))
    @settings(max_examples=60)
    def test_is_the_exact_binomial_test_of_the_discordant(self, x: int, y: int) -> None:
        a, b = pair(3, x, y, 2)
        assert mcnemar_exact(a, b) == mcnemar_exact(b, a)
        expected = binomtest(x, x + y).pvalue if x + y else 1.0
        assert mcnemar_exact(a, b) == pytest.approx(expected, rel=1e-9)


class TestMeanDifference:
    def test_is_equal_for_equal_seeds_and_only_then(self) -> None:
        xs, ys = [0.1, 0.4, 0.35, 0.6, 0.0], [0.2, 0.1, 0.3, 0.15]
        assert mean_difference(xs, ys, seed=1) == mean_difference(xs, ys, seed=1)
        assert mean_difference(xs, ys, seed=1) != mean_difference(xs, ys, seed=2)

    def test_agrees_with_theory_on_large_samples(self) -> None:
        generator = np.random.default_rng(0)
        xs, ys = generator.random(3000).tolist(), (generator.random(3000) * 0.5).tolist()
        found = mean_difference(xs, ys, seed=3)
        error = 1.96 * (np.var(xs) / 3000 + np.var(ys) / 3000) ** 0.5
        assert found.value == pytest.approx(np.mean(xs) - np.mean(ys))
        assert found.high - found.value == pytest.approx(error, rel=0.08)
        assert found.value - found.low == pytest.approx(error, rel=0.08)

    def test_covers_the_truth_as_often_as_it_says(self) -> None:
        generator = np.random.default_rng(11)
        hits = 0
        for case in range(200):
            xs = (generator.random(64) * (generator.random(64) < 0.8)).tolist()  # a fifth invalid: score 0
            ys = (generator.random(64) * (generator.random(64) < 0.6)).tolist()
            found = mean_difference(xs, ys, seed=case)
            hits += found.low <= 0.5 * 0.2 <= found.high
        assert 0.90 <= hits / 200 <= 0.985

    def test_swap_changes_only_the_sign(self) -> None:
        xs, ys = [0.1, 0.4, 0.35, 0.6, 0.0] * 8, [0.2, 0.1, 0.3, 0.15] * 8
        found, mirror = mean_difference(xs, ys, seed=1), mean_difference(ys, xs, seed=1)
        assert found.value == -mirror.value
        assert found.low == pytest.approx(-mirror.high, abs=0.02)

    def test_one_value_says_nothing_of_the_spread(self) -> None:
        found = mean_difference([0.9], [0.1, 0.1, 0.1], seed=0)
        assert (found.value, found.low, found.high) == (pytest.approx(0.8), -1.0, 1.0)

    def test_constant_samples_have_no_width(self) -> None:
        found = mean_difference([0.5] * 4, [0.25] * 9, seed=0)
        assert (found.value, found.low, found.high) == (0.25, 0.25, 0.25)

    @pytest.mark.parametrize("bad", [[], [float("nan")], [1.5], [-0.1]])
    def test_refuses_what_is_not_a_sample_of_scores(self, bad: list[float]) -> None:
        with pytest.raises(ValueError, match="xs"):
            mean_difference(bad, [0.1], seed=0)
        with pytest.raises(ValueError, match="ys"):
            mean_difference([0.1], bad, seed=0)
