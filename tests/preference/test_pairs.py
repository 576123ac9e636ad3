"""Preference pairs: the paper's rule, the stable rule, and what holds for both."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfdev_core.algorithm.prompt import load_prompt, program_of
from selfdev_core.config import PreferenceConfig
from selfdev_core.preference.pairs import choose_pairs
from selfdev_core.records import Candidate, PairsManifest, Verdict

PROMPT = load_prompt("miniature")


def candidate(name: str, score: float, valid: bool = True, iteration: int = 1) -> Candidate:
    verdict = Verdict(algorithm_id=name, reason="accepted" if valid else "exception")
    source = program_of(PROMPT, f"\n    return '{name}'\n")
    return Candidate(
        algorithm_id=name, source=source, iteration=iteration, copies=1, verdict=verdict, score=score if valid else 0.0
    )


def a_round(scores: list[float], iteration: int = 1) -> tuple[Candidate, ...]:
    return tuple(candidate(f"r{iteration}-{i}", score, iteration=iteration) for i, score in enumerate(scores))


def paper(**changes: float) -> PreferenceConfig:
    return PreferenceConfig.model_validate({"strategy": "paper", "p_w": 0.03, "p_l": 0.10, "pairs": 10_000, **changes})


def sides(manifest: PairsManifest) -> tuple[set[str], set[str]]:
    return {pair.chosen_id for pair in manifest.pairs}, {pair.rejected_id for pair in manifest.pairs}


@pytest.mark.parametrize(
    ("total", "p_w", "p_l", "winners", "losers"),
    [(100, 0.03, 0.10, 3, 10), (101, 0.03, 0.10, 4, 11), (10, 0.03, 0.10, 1, 1), (100, 0.07, 0.55, 7, 55), (7, 0.5, 0.5, 4, 3)],
)  # fmt: skip
def test_shares_are_rounded_up(total: int, p_w: float, p_l: float, winners: int, losers: int) -> None:
    chosen, rejected = sides(
        choose_pairs(paper(p_w=p_w, p_l=p_l), PROMPT, (a_round([i / total for i in range(total)]),), 0)
    )
    assert chosen == {f"r1-{i}" for i in range(total - winners, total)}
    assert rejected == {f"r1-{i}" for i in range(losers)}  # never one of the chosen, though both shares are rounded up


def test_every_chosen_program_meets_every_rejected_one() -> None:
    manifest = choose_pairs(paper(p_w=0.2, p_l=0.3), PROMPT, (a_round([i / 10 for i in range(10)]),), 0)
    assert len(manifest.pairs) == 2 * 3 == len(set(manifest.pairs))
    assert manifest.strategy == "paper" and manifest.note == ""


def test_the_best_three_of_each_earlier_iteration_join_the_chosen_and_never_the_rejected() -> None:
    rounds = tuple(a_round([0.01 * i + 0.1 * t for i in range(10)], iteration=t) for t in (1, 2, 3))
    chosen, rejected = sides(choose_pairs(paper(p_w=0.1, p_l=0.2, carry_over=3), PROMPT, rounds, 0))
    late = {"r3-9"}
    # Programs of earlier iterations are chosen only against programs that score lower.
    earlier = {f"r{t}-{i}" for t in (1, 2) for i in (7, 8, 9)}
    assert chosen <= late | earlier and late <= chosen
    assert rejected == {"r3-0", "r3-1"}
    high = (a_round([0.9] * 2 + [0.8] * 5, iteration=1), *rounds[1:])
    chosen, rejected = sides(choose_pairs(paper(p_w=0.1, p_l=0.2, carry_over=3), PROMPT, high, 0))
    assert {"r1-0", "r1-1", "r1-2"} <= chosen and not any(name.startswith("r1") for name in rejected)


def test_no_carry_over_leaves_earlier_iterations_out() -> None:
    rounds = (a_round([0.9] * 5, 1), a_round([0.1 * i for i in range(10)], 2))
    chosen, _ = sides(choose_pairs(paper(carry_over=0), PROMPT, rounds, 0))
    assert chosen == {"r2-9"}


def test_the_paper_rule_never_uses_an_invalid_program() -> None:
    bad = tuple(candidate(f"bad-{i}", 0.0, valid=False) for i in range(50))
    manifest = choose_pairs(paper(), PROMPT, (a_round([i / 10 for i in range(10)]) + bad,), 0)
    chosen, rejected = sides(manifest)
    assert chosen == {"r1-9"} and rejected == {"r1-0"}  # shares of the ten valid ones


def test_the_stable_rule_rejects_invalid_programs_and_chooses_from_all_rounds() -> None:
    bad = (candidate("bad", 0.0, valid=False),)
    rounds = (a_round([0.9, 0.5, 0.4, 0.0], 1) + bad, a_round([0.3, 0.2, 0.1, 0.05], 2))
    settings_ = PreferenceConfig(strategy="stable", p_w=0.25, p_l=0.25, carry_over=0, pairs=1000)
    chosen, rejected = sides(choose_pairs(settings_, PROMPT, rounds, 0))
    assert chosen == {"r1-0", "r1-1"}
    assert rejected == {"r1-3", "r2-3", "bad"}


def test_an_invalid_program_loses_even_to_one_that_scores_nothing() -> None:
    rounds = ((candidate("zero", 0.0), candidate("bad", 0.0, valid=False)),)
    manifest = choose_pairs(PreferenceConfig(strategy="stable"), PROMPT, rounds, 0)
    assert [(pair.chosen_id, pair.rejected_id) for pair in manifest.pairs] == [("zero", "bad")]


@pytest.mark.parametrize("strategy", ["paper", "stable"])
@pytest.mark.parametrize("scores", [[], [0.5], [0.5] * 20])
def test_equal_scores_prefer_nothing_and_say_so(strategy: str, scores: list[float]) -> None:
    manifest = choose_pairs(paper(strategy=strategy), PROMPT, (a_round(scores),), 0)  # type: ignore[arg-type]
    assert manifest.pairs == () and "nothing to prefer" in manifest.note


def test_equal_scores_keep_the_order_in_which_programs_were_drawn() -> None:
    drawn = a_round([0.5, 0.9, 0.9, 0.9, 0.1])
    rounds = ((*drawn, drawn[1]),)
    chosen, _ = sides(choose_pairs(paper(p_w=0.2, p_l=0.2), PROMPT, rounds, 0))
    assert chosen == {"r1-1"}


def test_pairs_hold_continuations_of_the_prompt() -> None:
    (pair, *_) = choose_pairs(paper(), PROMPT, (a_round([0.1, 0.2]),), 0).pairs
    assert program_of(PROMPT, pair.chosen) == candidate("r1-1", 0.2).source
    assert pair.chosen.startswith("\n    return") and pair.rejected.startswith("\n    return")


def test_few_pairs_are_shared_out_evenly_among_the_chosen() -> None:
    rounds = (a_round([i / 20 for i in range(20)]),)
    manifest = choose_pairs(paper(p_w=0.25, p_l=0.5, pairs=10), PROMPT, rounds, 3)
    each = [sum(pair.chosen_id == f"r1-{i}" for pair in manifest.pairs) for i in range(15, 20)]
    assert each == [2] * 5


_rounds = st.lists(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.booleans()), max_size=25),
    min_size=1,
    max_size=3,
)
_settings = st.builds(
    lambda strategy, p_w, rest, carry, pairs: PreferenceConfig(
        strategy=strategy, p_w=p_w, p_l=min(rest, 1 - p_w), carry_over=carry, pairs=pairs
    ),
    st.sampled_from(["paper", "stable"]), st.floats(0.01, 0.6), st.floats(0.01, 0.4), st.integers(0, 4), st.integers(1, 60),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(_settings, _rounds, st.integers(0, 5))
def test_invariants_of_every_set_of_pairs(
    chosen_by: PreferenceConfig, drawn: list[list[tuple[int, float, bool]]], seed: int
) -> None:
    known: dict[int, tuple[float, bool]] = {}  # a program has one score and one verdict wherever it appears
    rounds = tuple(
        tuple(candidate(f"p{n}", *known.setdefault(n, (score, valid)), iteration=t) for n, score, valid in one)
        for t, one in enumerate(drawn, 1)
    )
    manifest = choose_pairs(chosen_by, PROMPT, rounds, seed)
    assert manifest == choose_pairs(chosen_by, PROMPT, rounds, seed)
    assert len(manifest.pairs) <= chosen_by.pairs
    assert len({(pair.chosen_id, pair.rejected_id) for pair in manifest.pairs}) == len(manifest.pairs)
    assert bool(manifest.pairs) != bool(manifest.note)
    now = {c.algorithm_id for c in rounds[-1]}
    for pair in manifest.pairs:
        assert known[int(pair.chosen_id[1:])][1], "an invalid program is never chosen"
        loser_valid = known[int(pair.rejected_id[1:])][1]
        assert pair.chosen_score > pair.rejected_score or not loser_valid
        assert chosen_by.strategy == "stable" or (loser_valid and pair.rejected_id in now)
        assert pair.chosen != pair.rejected
