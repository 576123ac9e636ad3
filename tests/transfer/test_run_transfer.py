"""A transfer's rules: who is tuned, who is picked, who sees the test split, and when the seal counts as opened."""

from __future__ import annotations

import pytest

from selfdev_core.algorithm.canonical import algorithm_id
from selfdev_core.assemble import kept_transfers, with_transfer
from selfdev_core.evaluation.questions import QuestionBlock
from selfdev_core.openings import read_openings
from selfdev_core.prepare import Prepared
from selfdev_core.result import CampaignResult, Contender, TransferResult
from selfdev_core.transfer import TransferSpec, read_transfer, run_transfer
from selfdev_core.workspace import workspace_of
from tests.report.synthetic import campaign
from tests.transfer.conftest import NAMES_MATHS, PROGRAM, ByRule

WINNER, SECOND, UNTRAINED = NAMES_MATHS, PROGRAM.format(0.11), PROGRAM.format(0.12)
KEYS = {source: algorithm_id(source) for source in (WINNER, SECOND, UNTRAINED)}


def spec_of(ready: Prepared, stopped_after: int = 0) -> TransferSpec:
    kinds = {WINNER: "discovered-trained", SECOND: "discovered-trained", UNTRAINED: "discovered-untrained"}
    finalists = tuple(
        Contender(subject=KEYS[source], label=f"program {KEYS[source]}", kind=kind, source=source)
        for source, kind in kinds.items()
    )
    return TransferSpec(
        target=ready.targets[0],
        finalists=finalists,
        winner=KEYS[WINNER],
        untrained=KEYS[UNTRAINED],
        stopped_after=stopped_after,
    )


def run(ready: Prepared, executor: ByRule, stopped_after: int = 0) -> TransferResult:
    workspace = workspace_of(ready.settings)
    return read_transfer(run_transfer(spec_of(ready, stopped_after), executor, workspace), workspace)


def test_nothing_about_a_discovered_program_is_chosen_there(ready: Prepared) -> None:
    executor = ByRule(**{KEYS[WINNER]: 1, KEYS[SECOND]: 4})  # the second is far better there
    made = run(ready, executor)
    assert made.winner == KEYS[WINNER]
    assert not set(KEYS.values()) & executor.asked("search")
    assert set(KEYS.values()) <= executor.asked("validation")
    assert KEYS[SECOND] not in executor.asked("test") and KEYS[WINNER] in executor.asked("test")
    rows = {row.subject: row for row in made.rows}
    assert rows[KEYS[SECOND]].validation and rows[KEYS[SECOND]].test is None
    assert made.rows[0].subject == KEYS[SECOND]  # best validation first, whoever the winner is


def test_human_designed_algorithms_are_tuned_there_on_its_own_questions(ready: Prepared) -> None:
    first = run(ready, ByRule())
    points = [row.subject for row in first.rows if row.kind == "human"]
    assert len(points) == first.human == 2
    executor = ByRule(**{points[1]: 4})
    made = run(ready, executor)
    assert set(points) <= executor.asked("search")
    assert executor.asked("validation") & set(points) == {points[1]} == executor.asked("test") & set(points)
    against = {one.label: one.against for one in made.comparisons}
    assert against == {
        "seed": "seed", "best expert": "maths", "best human-designed": points[1], "best untrained": KEYS[UNTRAINED],
    }  # fmt: skip


def test_models_stand_under_their_own_names(ready: Prepared) -> None:
    labels = {row.subject: row.label for row in run(ready, ByRule()).rows if row.kind == "model"}
    assert labels == {"seed": "seed", "maths": "alpha", "code": "beta"}


def test_a_program_that_cannot_merge_there_is_a_row_with_its_verdict(ready: Prepared) -> None:
    executor = ByRule([KEYS[SECOND]])
    row = {row.subject: row for row in run(ready, executor).rows}[KEYS[SECOND]]
    assert row.verdict and row.verdict.reason == "exception" and "maths" in row.verdict.detail
    assert row.validation is None and KEYS[SECOND] not in executor.asked("validation")


def test_when_the_winner_cannot_merge_there_the_seal_stays_shut(ready: Prepared) -> None:
    executor = ByRule([KEYS[WINNER]])
    made = run(ready, executor)
    assert made.test_openings == 0 and made.comparisons == () and executor.asked("test") == set()
    sealed = ready.targets[0].plan.sealed.sha256
    assert workspace_of(ready.settings).store.read("questions", sealed, QuestionBlock) is None


def test_the_seal_of_a_set_is_its_own_and_counts_by_its_models_not_its_name(ready: Prepared) -> None:
    store = workspace_of(ready.settings).store
    assert run(ready, ByRule()).test_openings == 1
    assert run(ready, ByRule()).test_openings == 1  # the same again opens nothing new
    assert read_openings(store, "mine").openings == ()  # the campaign's own seal is untouched
    renamed = ready.targets[0].model_copy(update={"name": "fresh"})
    points = [row.subject for row in run(ready, ByRule()).rows if row.kind == "human"]
    other = ready._replace(targets=(renamed,))
    assert run(other, ByRule(**{points[1]: 4})).test_openings == 2  # other rivals: opened again, whatever it is called
    assert run(ready, ByRule(), stopped_after=2).test_openings == 3


def test_a_changed_test_split_is_refused(ready: Prepared) -> None:
    from selfdev_core.errors import ConfigError

    file = ready.targets[0].plan.config.questions.test_file
    assert file is not None
    file.write_text(file.read_text().replace("What is", "How much is"))
    with pytest.raises(ConfigError, match="have changed"):
        run(ready, ByRule())


def test_a_transfer_is_kept_by_reruns_as_long_as_it_is_of_the_same_winner(ready: Prepared) -> None:
    made = run(ready, ByRule())
    result: CampaignResult = campaign().model_copy(update={"winner": made.winner})
    added = with_transfer(with_transfer(result, made), made)
    assert [one.name for one in added.transfers] == ["other"]
    config = ready.plan.config.model_copy(update={"transfer": {}})
    assert kept_transfers(config, made.winner, added) == (made,)
    assert kept_transfers(config, "another", added) == () == kept_transfers(config, "", added)
    assert kept_transfers(ready.plan.config, made.winner, added) == ()  # of the campaign's own file: made anew
