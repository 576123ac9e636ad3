"""The sentence says what the intervals say, and nothing more."""

from __future__ import annotations

import pytest
from synthetic import unfinished, with_difference

from selfdev_core.report.answer import answer, asked, learned, picked, winners_curse
from selfdev_core.report.standing import winner_of
from selfdev_core.result import CampaignResult, Interval

HUMAN, EXPERT, SEED = "human-ties-0.4-1.0", "multiply", "seed"


def set_differences(result: CampaignResult, expert: tuple[float, float], human: tuple[float, float]) -> CampaignResult:
    return with_difference(with_difference(result, EXPERT, *expert), HUMAN, *human)


def test_asks_with_the_experts_by_name(finished: CampaignResult) -> None:
    assert "(multiply, subtract and fractions)" in asked(finished)


@pytest.mark.parametrize(
    ("expert", "human", "word", "pieces"),
    [
        (
            (0.02, 0.06),
            (0.01, 0.03),
            "Yes",
            ["4.0 points above the best expert (multiply)", ", and 2.0 points above the best"],
        ),
        ((0.02, 0.06), (-0.05, -0.01), "No", [", but 3.0 points below the best human-designed merge (TIES"]),
        ((0.02, 0.06), (-0.02, 0.03), "Not shown", [", but 0.5 points above", "which includes 0"]),
        ((0.02, 0.06), (-0.03, 0.02), "Not shown", ["0.5 points below the best human", "which includes 0"]),
        ((-0.06, -0.02), (0.01, 0.03), "No", ["4.0 points below the best expert (multiply)", ", but 2.0 points above"]),
        ((-0.01, 0.03), (-0.01, 0.01), "Not shown", [", and level with the best human"]),
    ],
)
def test_says_how_the_winner_stands(
    finished: CampaignResult, expert: tuple[float, float], human: tuple[float, float], word: str, pieces: list[str]
) -> None:
    found = answer(set_differences(finished, expert, human))
    assert found.word == word
    for piece in pieces:
        assert piece in found.sentence
    assert found.sentence.count(". ") == found.sentence.count("no. ")  # one sentence


def test_an_interval_that_touches_zero_shows_nothing(finished: CampaignResult) -> None:
    assert answer(set_differences(finished, (0.0, 0.04), (0.01, 0.03))).word == "Not shown"


def test_a_seed_better_than_every_expert_is_the_bar(finished: CampaignResult) -> None:
    found = answer(with_difference(finished, SEED, -0.09, -0.05))
    assert found.word == "No" and "7.0 points below the seed model" in found.sentence


def test_a_winner_that_people_designed_is_no_success(finished: CampaignResult) -> None:
    found = answer(finished.model_copy(update={"winner": HUMAN}))
    assert found.word == "No" and "a merge designed by people" in found.sentence


def test_a_comparison_with_itself_is_left_out(finished: CampaignResult) -> None:
    itself = finished.comparisons[0].model_copy(update={"against": finished.winner})
    assert "no expert and no human" in answer(finished.model_copy(update={"comparisons": (itself,)})).sentence


def test_without_a_human_comparison_the_sentence_names_the_gap(finished: CampaignResult) -> None:
    kept = tuple(c for c in finished.comparisons if c.against != HUMAN)
    found = answer(finished.model_copy(update={"comparisons": kept}))
    assert found.word == "Not shown" and "compared with no human-designed merge" in found.sentence


def test_no_winner_is_a_no(finished: CampaignResult) -> None:
    found = answer(finished.model_copy(update={"winner": "", "comparisons": ()}))
    assert found.word == "No" and "no winner was found" in found.sentence


def test_an_unfinished_campaign_has_no_answer(finished: CampaignResult) -> None:
    assert answer(unfinished()).word == "In progress"
    assert answer(finished.model_copy(update={"finished": False})).word == "In progress"
    assert "no program has been scored" in answer(unfinished(rounds=0)).sentence


@pytest.mark.parametrize(
    ("low", "high", "word", "piece"),
    [
        (0.01, 0.05, "Yes", "3.0 points higher"),
        (-0.05, -0.01, "No, it got worse", "3.0 points lower"),
        (-0.01, 0.05, "Not shown", "the interval includes 0: no evidence that"),
    ],
)
def test_says_whether_the_factory_got_better(
    finished: CampaignResult, low: float, high: float, word: str, piece: str
) -> None:
    gain = Interval(value=(low + high) / 2, low=low, high=high)
    found = learned(finished.model_copy(update={"learned_gain": gain}))
    assert found is not None and found.word == word and piece in found.sentence
    assert learned(finished.model_copy(update={"learned_gain": None})) is None


def test_names_the_winners_curse_only_when_the_score_fell(finished: CampaignResult) -> None:
    winner = winner_of(finished)
    assert winner is not None and "(the winner's curse)" in winners_curse(winner)
    swapped = winner.model_copy(update={"search": winner.validation, "validation": winner.search})
    assert "no sign of a winner's curse" in winners_curse(swapped)
    assert winners_curse(winner.model_copy(update={"search": None})) == ""


def test_checks_that_the_winner_is_the_rules(finished: CampaignResult) -> None:
    assert "which is the rule that was set beforehand" in picked(finished)
    prettier = next(c.subject for c in reversed(finished.leaderboard) if c.kind == "discovered-trained")
    assert "the winner is not the rule's" in picked(finished.model_copy(update={"winner": prettier}))


def test_two_arms_with_one_factory_show_no_learning(finished: CampaignResult) -> None:
    same = tuple(r.model_copy(update={"factory_sha256": "f" * 64}) for r in finished.iterations)
    found = learned(finished.model_copy(update={"iterations": same}))
    assert found is not None and found.word == "Not shown" and "is chance" in found.sentence
