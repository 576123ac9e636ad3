"""The page: complete, self-contained, safe with hostile text, and whole when the campaign is not."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from synthetic import SOURCE, iteration, unfinished

from selfdev_core.records import Candidate, Scorecard, Tally
from selfdev_core.report import plot_png, render_report
from selfdev_core.report.progress import course, reasons, top_decile, valid_scores
from selfdev_core.report.standing import comparisons, rows
from selfdev_core.report.words import bounds, duration, percent, points, short, size, visible
from selfdev_core.result import CampaignResult, Interval, Stop

HOSTILE = [
    "</code></pre><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% raw %}",
    "</style><style>*{display:none}",
    "a\u202egpj.exe\u2066\u200b",
    "nul\x00 bell\x07 surrogate\ud800",
    "]]>--><!--",
    "x" * 5000,
]
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """Collects tags, and checks that they are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1] == tag, f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def html(finished: CampaignResult) -> str:
    return render_report(finished)


def assert_safe(html: str) -> Page:
    page = Page(html)
    assert not {"script", "img", "iframe", "object", "embed", "link", "base", "form"} & set(page.tags)
    assert page.tags.count("style") == 1
    for tag, name, value in page.attributes:
        assert not name.startswith("on") and name not in ("src", "href", "style", "xlink:href"), (tag, name, value)
    html.encode("utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\u200b]", html)
    return page


def test_is_one_file_that_asks_for_nothing(html: str) -> None:
    assert_safe(html)
    assert "default-src 'none'" in html
    assert "http://" not in html and "https://" not in html and "url(" not in html and "@import" not in html


def test_holds_what_a_reader_needs(html: str, finished: CampaignResult) -> None:
    text = " ".join(Page(html).text.split())
    for heading in (
        "What was asked", "The answer", "The winner", "The winner against the others", "Leaderboard",
        "Did the factory get better?", "What the factory wrote", "Format and knowledge",
        "Questions and the seal on the test", "Budget and cost", "Conditions",
    ):  # fmt: skip
        assert heading in text
    for piece in (
        "opened once",
        "winner's curse",
        "1.0 point",
        "24 min 54 s",
        "1,884,040",
        "torch.softmax",
        "time-limit",
    ):
        assert piece in text
    assert text.count("rank ") >= 3 and "Campaign in progress" not in text


def test_every_drawing_says_what_it_shows(html: str) -> None:
    drawings = re.findall(r"<svg [^>]*>", html)
    assert len(drawings) > 10
    assert all('aria-hidden="true"' in d or re.search(r'aria-label="[^"]{30,}"', d) for d in drawings)
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids)) and set(re.findall(r'aria-labelledby="([^"]+)"', html)) <= set(ids)


def test_is_equal_for_equal_results(html: str, finished: CampaignResult) -> None:
    assert render_report(CampaignResult.model_validate_json(finished.model_dump_json())) == html


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(finished: CampaignResult, text: str) -> None:
    board = tuple(
        c.model_copy(update={"label": text, "source": text, **({"kind": text} if i == 3 else {})})
        for i, c in enumerate(finished.leaderboard)
    )
    rounds = tuple(r.model_copy(update={"dpo_note": text, "reasons": {text: 3}}) for r in finished.iterations)
    page = assert_safe(
        render_report(
            finished.model_copy(
                update={
                    "name": text,
                    "started_at": text,
                    "config": {text: {text: [text]}, "questions": text, "models": {"experts": text}},
                    "conditions": {text: text},
                    "leaderboard": board,
                    "iterations": rounds,
                    "comparisons": tuple(c.model_copy(update={"label": text}) for c in finished.comparisons),
                    "costs": {text: next(iter(finished.costs.values()))},
                    "best_of_arms": {text: 0.5},
                }
            )
        )
    )
    assert visible(text)[:20].split()[0] in page.text
    plot_png(finished.model_copy(update={"name": text}))


def test_hidden_characters_are_written_out() -> None:
    assert visible("a\u202eb\x00c\td\r\ne\ud800") == "a⟨U+202E⟩b⟨U+0000⟩c\td\ne⟨U+D800⟩"
    assert short("a\n\n b" + "c" * 200, 10) == "a bcccccc…"


@pytest.mark.parametrize(
    "result",
    [
        unfinished(rounds=0),
        unfinished(rounds=1),
        unfinished(rounds=2, arms=("trained", "untrained")),
        unfinished(rounds=12, arms=("trained", "untrained")),
        unfinished().model_copy(update={"finished": True}),
        unfinished(arms=("untrained",)),
    ],
    ids=["empty", "one round", "two arms", "twelve rounds", "no winner", "untrained only"],
)
def test_a_partial_result_still_renders(result: CampaignResult) -> None:
    page = assert_safe(render_report(result))
    assert ("Campaign in progress." in page.text) == (not result.finished)
    assert plot_png(result).startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize(
    "update",
    [
        {"comparisons": ()},
        {"leaderboard": ()},
        {"winner": "a-gone"},
        {"costs": {}, "budget": None, "learned_gain": None, "best_of_arms": {}, "conditions": {}, "config": {}},
        {"iterations": ()},
    ],
    ids=lambda update: "without " + next(iter(update)),
)
def test_any_part_may_be_missing(finished: CampaignResult, update: dict[str, object]) -> None:
    assert_safe(render_report(finished.model_copy(update=update)))


def test_rounds_with_nothing_valid_or_nothing_invalid_render() -> None:
    item = iteration("trained", 1)
    nothing = item.model_copy(
        update={"valid_share": 0.0, "sample_scores": (0.0,) * 64, "candidates": (), "evaluated": 0}
    )
    alike = item.model_copy(update={"valid_share": 1.0, "sample_scores": (0.5,) * 64, "reasons": {}})
    for rounds in ((nothing,), (alike,), (nothing.model_copy(update={"sample_scores": (), "samples": 0}),)):
        result = unfinished().model_copy(update={"iterations": rounds})
        assert_safe(render_report(result))
        plot_png(result)


def test_a_test_opened_twice_is_said_aloud(finished: CampaignResult) -> None:
    assert "opened twice" in render_report(finished.model_copy(update={"test_openings": 2}))
    assert "opened 5 times" in render_report(finished.model_copy(update={"test_openings": 5}))
    assert "has not been opened" in render_report(finished.model_copy(update={"test_openings": 0}))


def test_a_search_that_its_budget_ended_is_said_aloud(finished: CampaignResult) -> None:
    stop = Stop(cap="device_hours", limit=2.0, spent=2.25, iterations=2, planned=4)
    page = render_report(finished.model_copy(update={"stopped_by": stop}))
    assert "Ended by its budget" in page and "after 2 of 4 iterations" in page and "2.25 of 2 device hours" in page
    assert "Ended by its budget" not in render_report(finished)


def test_ranks_count_among_those_asked_and_ties_share(finished: CampaignResult) -> None:
    board = rows(finished)
    assert [r.cells["validation"].rank for r in board if "validation" in r.cells] == sorted(
        r.cells["validation"].rank for r in board if "validation" in r.cells
    )
    asked = [r for r in board if "test" in r.cells]
    assert {r.cells["test"].of for r in asked} == {len(asked)}
    for a in asked:
        better = sum(b.cells["test"].score.value > a.cells["test"].score.value for b in asked)
        assert a.cells["test"].rank == better + 1


def test_comparisons_name_the_split_they_were_made_on(finished: CampaignResult) -> None:
    assert {a.split for a in comparisons(finished)} == {"test"}
    assert [a.role for a in comparisons(finished)] == ["seed", "expert", "human", "untrained"]


def test_unparsable_answers_stand_apart_from_wrong(finished: CampaignResult) -> None:
    card = Scorecard(
        subject="x", split="test", questions_sha256="0" * 64,
        outcomes=("right", "right", "wrong", "unparsable"), tokens=0, seconds=0.0,
    )  # fmt: skip
    winner = finished.leaderboard[0].model_copy(update={"test": card})
    cell = rows(finished.model_copy(update={"leaderboard": (winner,)}))[0].cells["test"]
    assert (cell.score.value, cell.wrong, cell.unparsable) == (0.5, 0.25, 0.25)


def test_both_readings_of_the_answers_are_shown(finished: CampaignResult) -> None:
    card = Scorecard(
        subject="x", split="test", questions_sha256="0" * 64,
        outcomes=("right", "right", "wrong", "unparsable"), tokens=0, seconds=0.0,
        tallies={
            "strict": Tally(right=1, wrong=0, unparsable=3),
            "flexible": Tally(right=2, wrong=1, unparsable=1),
        },
    )  # fmt: skip
    winner = finished.leaderboard[0].model_copy(update={"test": card})
    page = render_report(finished.model_copy(update={"leaderboard": (winner,)}))
    assert "strict 25.0%" in page and "flexible 50.0%" not in page
    assert "strict" not in render_report(finished)


def test_the_best_so_far_never_falls_and_counts_each_function_once(finished: CampaignResult) -> None:
    best = course(finished, "trained")
    assert list(best.best) == sorted(best.best) and best.starts[0] == 0
    twice = finished.model_copy(update={"iterations": finished.iterations * 2})
    assert course(twice, "trained").best == best.best


def test_invalid_samples_are_taken_out_of_the_distribution() -> None:
    item = iteration("trained", 1)
    assert len(valid_scores(item)) == round(item.valid_share * item.samples)
    assert top_decile((0.1,) * 9 + (0.9,)) == 0.9 and top_decile(()) == 0.0


def test_reasons_are_ordered_by_how_common_they_are(finished: CampaignResult) -> None:
    totals = [sum(row.counts) for row in reasons(finished)]
    assert totals == sorted(totals, reverse=True)
    assert sum(totals) == sum(sum(r.reasons.values()) for r in finished.iterations)


def test_notes_on_programs_are_counted_and_stand_beside_the_winner(finished: CampaignResult) -> None:
    def flagged(candidate: Candidate) -> Candidate:
        flags = ("returns-input",) if candidate.verdict.accepted else ()
        return candidate.model_copy(update={"verdict": candidate.verdict.model_copy(update={"flags": flags})})

    assert "Notes on accepted programs" not in render_report(finished)
    rounds = tuple(r.model_copy(update={"candidates": tuple(map(flagged, r.candidates))}) for r in finished.iterations)
    page = render_report(finished.model_copy(update={"iterations": rounds}))
    accepted = {c.algorithm_id for r in finished.iterations for c in r.candidates if c.verdict.accepted}
    assert f"returns one of its inputs unchanged, for every parameter, {len(accepted)} programs." in page
    assert ("Note: it returns one of its inputs unchanged" in page) == (finished.winner in accepted)


def test_numbers_are_written_by_one_rule() -> None:
    space = "\N{NO-BREAK SPACE}"
    assert percent(0.4136) == f"41.4{space}%" and percent(0.0) == f"0.0{space}%"
    assert points(0.0523) == "+5.2" and points(-0.0523) == "−5.2" and points(0.0) == "0.0"
    assert points(0.0003) == "+0.03" and points(-0.0003) == "−0.03" and points(1e-9) == "0.0"
    assert bounds(Interval(value=0.4, low=0.35, high=0.451)) == "[35.0, 45.1]"
    assert bounds(Interval(value=0.0, low=-0.01, high=0.02), True) == "[−1.0, +2.0]"
    assert size(-0.01) == "1.0 point" and size(0.0101) == "1.0 point" and size(0.05) == "5.0 points"
    assert [duration(s) for s in (0.42, 48.3, 59.7, 200, 7500)] == [
        "0.4 s",
        "48 s",
        "1 min 00 s",
        "3 min 20 s",
        "2 h 05 min",
    ]


def test_importing_the_report_loads_no_plotting_or_templates() -> None:
    code = (
        "import sys, selfdev_core.report, selfdev_core.statistics.intervals;"
        "print([m for m in ('matplotlib', 'jinja2', 'pygments', 'numpy', 'scipy') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_the_winning_program_is_shown_whole(html: str) -> None:
    source = re.search(r"<code>(import.*?|<span.*?)</code></pre>", html, re.S)
    assert source is not None
    assert Page(source.group(1)).text == SOURCE
