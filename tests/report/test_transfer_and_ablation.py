"""Transfer and the temperature ablation on the page: one table each, a heatmap, and nothing claimed that was not shown."""

from __future__ import annotations

import pytest
from synthetic import Exam, contender, iteration

from selfdev_core.records import Cost, Verdict
from selfdev_core.report import render_report
from selfdev_core.report.moves import heat, heatmap, moves
from selfdev_core.report.schedules import schedules
from selfdev_core.result import AblationArm, CampaignResult, Comparison, TransferResult, TransferRow
from selfdev_core.schedules import TemperatureConfig
from selfdev_core.statistics.intervals import mcnemar_exact, paired_difference
from tests.report.test_report import HOSTILE, Page, assert_safe


def row(
    exam: Exam, subject: str, kind: str, ability: float, splits: str, label: str = "", fails: bool = False
) -> TransferRow:
    made = contender(exam, subject, label or subject, kind, ability, "" if fails else splits)
    reason = "exception" if fails else "accepted"
    verdict = (
        None if kind == "model" else Verdict(algorithm_id=subject, reason=reason, detail="KeyError: 'maths'" * fails)
    )  # type: ignore[arg-type]
    return TransferRow(**(made.model_dump() | {"verdict": verdict}))


def transfer(result: CampaignResult, fails: bool = False, name: str = "other") -> TransferResult:
    exam = Exam(11)
    others = [
        c for c in result.leaderboard if c.kind.startswith("discovered") and c.validation and c.subject != result.winner
    ]
    rows = [
        row(exam, result.winner, "discovered-trained", 0.4, "vt", fails=fails),
        row(exam, others[0].subject, "discovered-trained", 0.1, "v", fails=not fails),
        row(exam, "human-ta", "human", 0.0, "svt", "task arithmetic 0.6"),
        row(exam, "human-ta-2", "human", -0.2, "sv", "task arithmetic 0.2"),
        row(exam, "human-ms", "human", -0.9, "sv", "Model Stock"),
        row(exam, "seed", "model", -0.8, "svt"),
        row(exam, "maths", "model", -0.3, "svt", "wizard"),
    ]
    cards = {one.subject: one.test for one in rows if one.test}
    comparisons = tuple(
        Comparison(
            against=key,
            label=label,
            difference=paired_difference(cards[result.winner], cards[key]),
            p_value=mcnemar_exact(cards[result.winner], cards[key]),
        )
        for key, label in (("seed", "seed"), ("maths", "best expert"), ("human-ta", "best human-designed"))
        if result.winner in cards
    )
    return TransferResult(
        name=name, models={}, questions={}, names={"maths": "wizard"}, winner=result.winner,
        finalists=(result.winner, others[0].subject), rows=tuple(rows), comparisons=comparisons, human=3,
        test_openings=0 if fails else 1, cost=Cost(),
    )  # fmt: skip


def ablated(result: CampaignResult) -> CampaignResult:
    rounds = tuple(iteration("trained", t, seed=5) for t in (1, 2, 3, 4))
    best = next(c for c in result.leaderboard if c.kind == "discovered-trained")
    arm = AblationArm(name="low", schedule=TemperatureConfig(first=0.85), iterations=rounds, evaluated=40, best=best)
    return result.model_copy(update={"ablation": (arm, arm.model_copy(update={"name": "none", "best": None}))})


def test_each_set_gets_an_answer_comparisons_and_its_own_rows(finished: CampaignResult) -> None:
    result = finished.model_copy(update={"transfers": (transfer(finished),)})
    (move,) = moves(result)
    assert move.answer.word in ("Yes", "Not shown") and "(wizard)" in move.answer.sentence
    assert [one.role for one in move.found] == ["seed", "expert", "human"] and {one.split for one in move.found} == {
        "test"
    }
    assert "wizard as “maths”" in move.told and "opened once" in move.told
    assert [one.verdict.detail for one in move.failed if one.verdict] == ["KeyError: 'maths'"]
    page = assert_safe(render_report(result))
    text = " ".join(page.text.split())
    assert "On other models" in text and "These could not merge this set" in text and "KeyError" in text


def test_a_winner_that_cannot_merge_there_is_a_no_and_no_score(finished: CampaignResult) -> None:
    result = finished.model_copy(update={"transfers": (transfer(finished, fails=True),)})
    (move,) = moves(result)
    assert move.answer.word == "No" and "stayed sealed" in move.answer.sentence and not move.found
    assert_safe(render_report(result))


def test_the_heatmap_has_every_algorithm_on_every_set_and_each_methods_best_point(finished: CampaignResult) -> None:
    result = finished.model_copy(update={"transfers": (transfer(finished), transfer(finished, name="third"))})
    found = heat(result)
    assert found.columns == ("this campaign", "other", "third")
    rows = {one.label: one.cells for one in found.rows}
    assert all(len(cells) == 3 for cells in rows.values())
    winner = next(cells for label, cells in rows.items() if label.startswith("★"))
    assert isinstance(winner[0], float) and isinstance(winner[1], float)
    assert "exception" in [cells[1] for cells in rows.values()]
    best = {one.subject: one.validation for one in result.transfers[0].rows}
    assert rows["task arithmetic, tuned"][1] == max(best[k].score for k in ("human-ta", "human-ta-2") if best[k])  # type: ignore[union-attr]
    assert "Model Stock, tuned" in rows and rows["Model Stock, tuned"][0] == "—"
    assert rows["seed"][1] == found.seeds[1]
    drawing = heatmap(result)
    assert drawing.count("<rect") == 3 * len(found.rows) and "aria-label" in drawing
    assert heatmap(finished) == ""


def test_the_ablation_compares_each_schedule_with_the_campaigns_own(finished: CampaignResult) -> None:
    own, low, none = schedules(ablated(finished))
    assert own.gain is None and own.temperatures == pytest.approx((1.2, 1.0, 0.857, 0.75), abs=0.001)
    assert low.gain is not None and low.gain.value == pytest.approx(low.mean - own.mean)
    assert low.validation is not None and none.validation is None
    assert "fell short" in low.told and low.evaluated == 40
    assert own.told == "decay, rate 0.2" and schedules(finished) == []
    text = " ".join(assert_safe(render_report(ablated(finished))).text.split())
    assert "What the temperature did" in text and "no test question was asked" in text


def test_without_either_the_page_has_neither(finished: CampaignResult) -> None:
    text = Page(render_report(finished)).text
    assert "On other models" not in text and "What the temperature did" not in text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text_there_too(finished: CampaignResult, text: str) -> None:
    made = transfer(finished)
    rows = tuple(
        one.model_copy(
            update={
                "label": text,
                **({"verdict": one.verdict.model_copy(update={"detail": text})} if one.verdict else {}),
            }
        )
        for one in made.rows
    )
    hostile = made.model_copy(update={"name": text, "rows": rows, "names": {text: text + "x"}})
    result = ablated(finished)
    arm = result.ablation[0].model_copy(update={"name": text})
    assert_safe(render_report(result.model_copy(update={"transfers": (hostile,), "ablation": (arm,)})))
