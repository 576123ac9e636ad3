"""Puts the page together: what the other rooms of the report found out, through one template, into one HTML file.

The page holds untrusted text (programs written by a model, names from a configuration). Defended: everything goes
through Jinja2's autoescape or Pygments' escaping, characters that could hide or reorder text are written out, and a
content security policy forbids scripts and every outside resource. Not defended: what the text itself claims.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

from selfdev_core.records import Candidate, Cost
from selfdev_core.report import answer, charts, moves, progress, schedules, standing, words
from selfdev_core.result import CampaignResult, Contender, IterationResult

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

OTHERS_SHOWN = 8


def render_report(result: CampaignResult) -> str:
    """One self-contained HTML page: no script, no outside resource. A partly filled result gives a page too."""
    from markupsafe import Markup

    winner = standing.winner_of(result)
    found = standing.comparisons(result)
    board = standing.rows(result)
    head, tail = _cut(board)
    rounds = progress.rounds(result)
    bounds = [abs(v) for a in found for v in (a.comparison.difference.low, a.comparison.difference.high)]
    gains = [abs(v) for r in rounds if r.gain for v in (r.gain.low, r.gain.high)]
    return _template().render(
        result=result,
        style=Markup(_resource("report.css")),
        asked=answer.asked(result),
        setup=_setup(result),
        answer=answer.answer(result),
        learned=answer.learned(result),
        found=found,
        key_facts=[a for role in ("expert", "human", "untrained", "seed") if (a := answer.hardest(found, role))][:3],
        reach=max(bounds, default=0.0) or 1.0,
        gain_reach=max(gains, default=0.0) or 1.0,
        winner=winner,
        winner_row=next((row for row in board if row.is_winner), None),
        winner_source=_highlighted(winner.source) if winner and winner.source else "",
        curse=answer.winners_curse(winner) if winner else "",
        picked=answer.picked(result),
        origin=_origin(result, winner),
        board=head,
        board_rest=tail,
        asked_rows=_asked_rows(board, found),
        rounds=rounds,
        items=progress.ordered(result),
        reasons=progress.reasons(result),
        notes=progress.notes(result),
        winner_notes=progress.notes_on(result, winner.subject) if winner else [],
        schedules=schedules.schedules(result),
        moves=moves.moves(result),
        heat=Markup(moves.heatmap(result)),
        chart_scores=Markup(charts.distributions(result)),
        chart_best=Markup(charts.best_so_far(result)),
        chart_valid=Markup(charts.shares(result, "valid")),
        chart_distinct=Markup(charts.shares(result, "distinct")),
        whisker=lambda *args: Markup(charts.whisker(*args)),
        sign=answer.sign,
        splits=standing.split_facts(result),
        split_names=standing.SPLITS,
        total=sum(result.costs.values(), start=Cost()),
        longest=max((c.seconds for c in result.costs.values()), default=0.0) or 1.0,
        config=_flat(result.config),
        w=words,
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["visible"] = words.visible
    environment.filters["short"] = words.short
    return environment.from_string(_resource("report.html.j2"))


@cache
def _resource(name: str) -> str:
    return resources.files("selfdev_core.report").joinpath(name).read_text(encoding="utf-8")


def _highlighted(source: str) -> Markup:
    from markupsafe import Markup
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    lexer = PythonLexer(stripnl=False, ensurenl=False)
    return Markup(highlight(words.visible(source), lexer, HtmlFormatter(nowrap=True)))


def _cut(board: list[standing.Row]) -> tuple[list[standing.Row], list[standing.Row]]:
    """Rows to show at once (finalists, models, and the best of the rest) and rows to fold away."""
    head: list[standing.Row] = []
    tail: list[standing.Row] = []
    others = 0
    for row in board:
        keep = row.is_winner or "test" in row.cells or row.contender.kind == "model"
        if not keep:
            others += 1
            keep = others <= OTHERS_SHOWN
        (head if keep else tail).append(row)
    return (head, tail) if len(tail) > 3 else (head + tail, [])


def _asked_rows(
    board: list[standing.Row], found: list[standing.Against]
) -> list[tuple[standing.Row, str, standing.Cell]]:
    """Winner and what it is compared with, on the latest split each was asked: right, wrong and unparsable apart."""
    subjects = {a.comparison.against for a in found}
    chosen = [row for row in board if row.is_winner or row.contender.subject in subjects]
    made: list[tuple[standing.Row, str, standing.Cell]] = []
    for row in chosen:
        split = next((s for s in reversed(standing.SPLITS) if s in row.cells), None)
        if split:
            made.append((row, split, row.cells[split]))
    return made


class _Origin(NamedTuple):
    """Where the winning program came from. `same`: other programs that compute the same function."""

    arm: str
    iteration: int
    temperature: float
    copies: int
    same: int


def _origin(result: CampaignResult, winner: Contender | None) -> _Origin | None:
    if winner is None:
        return None
    arms = {"discovered-trained": "trained", "discovered-untrained": "untrained"}
    drawn: list[tuple[IterationResult, Candidate]] = [
        (item, candidate)
        for item in progress.ordered(result)
        for candidate in item.candidates
        if candidate.algorithm_id == winner.subject and arms.get(winner.kind, item.arm) == item.arm
    ]
    if not drawn:
        return None
    first, candidate = drawn[0]
    fingerprint = candidate.verdict.fingerprint
    same = {
        c.algorithm_id
        for item in result.iterations
        for c in item.candidates
        if fingerprint and c.verdict.fingerprint == fingerprint
    }
    return _Origin(
        arm=first.arm,
        iteration=first.iteration,
        temperature=first.temperature,
        copies=sum(c.copies for _, c in drawn),
        same=len(same - {winner.subject}),
    )


def _setup(result: CampaignResult) -> str:
    """How the campaign went about it, from what is known of it, in a few plain sentences."""
    items = [r for r in result.iterations if r.arm == "trained"]
    sizes = {fact.name: fact.questions for fact in standing.split_facts(result)}
    finalists = sum(c.kind.startswith("discovered") and c.validation is not None for c in result.leaderboard)
    humans = sum(c.kind == "human" for c in result.leaderboard)
    parts = []
    if items:
        drawn = sorted({r.samples for r in items})
        each = words.count(drawn[0]) if len(drawn) == 1 else f"{words.count(drawn[0])} to {words.count(drawn[-1])}"
        parts.append(f"The factory drew {each} programs in {_each_of(len(items))}.")
    if sizes["search"]:
        parts.append(f"Each distinct program was scored on {words.counted(sizes['search'], 'search question')}.")
    if finalists:
        again = f"{words.count(finalists)} of them (both arms)"
        parts.append(f"{again} were scored again on {words.counted(sizes['validation'], 'validation question')}.")
    if humans:
        parts.append(f"{words.counted(humans, 'human-designed merge')} stood beside them.")
    return " ".join(parts)


def _each_of(iterations: int) -> str:
    if iterations == 1:
        return "one iteration"
    return f"each of {iterations} iterations, and DPO trained it on its better and worse programs in between"


def _flat(value: object, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as `path` and value, in the order given."""
    if isinstance(value, dict) and value:
        return [row for key, inner in value.items() for row in _flat(inner, f"{prefix}.{key}" if prefix else str(key))]
    return [(prefix, "—" if value is None or value == {} else str(value))] if prefix else []
