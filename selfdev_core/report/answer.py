"""What was asked, and the answer in one sentence: the claim, with its interval, and what stands against it.

A difference counts as shown only when its 95 % interval leaves 0 out. Where it does not, the sentence says so.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from selfdev_core.report.standing import Against, card_of, comparisons, label_of, role_of, winner_of
from selfdev_core.report.words import bounds, counted, listed, percent, points, short, size
from selfdev_core.result import CampaignResult, Contender, Interval
from selfdev_core.statistics.intervals import wilson

Sign = Literal["above", "below", "open"]
_AUTHORS = {
    "trained": "written by the trained factory",
    "untrained": "written by the untrained factory",
    "human": "a merge designed by people",
    "seed": "the seed model as it was",
    "expert": "one of the experts as it was",
}


class Answer(NamedTuple):
    """`word` is Yes, No, Not shown or In progress; `sentence` carries the numbers."""

    word: str
    tone: Literal["good", "bad", "open"]
    sentence: str


def sign(interval: Interval) -> Sign:
    """On which side of 0 the whole interval lies; `open` when it includes 0."""
    return "above" if interval.low > 0 else "below" if interval.high < 0 else "open"


def hardest(found: list[Against], *roles: str) -> Against | None:
    """Of the comparisons with one of `roles`, the one that the winner does worst in."""
    return min((a for a in found if a.role in roles), key=lambda a: a.comparison.difference.value, default=None)


def asked(result: CampaignResult) -> str:
    """The question of the campaign, with the experts by name."""
    experts = [short(c.label or c.subject, 40) for c in result.leaderboard if role_of(c) == "expert"]
    models = result.config.get("models")
    if not experts and isinstance(models, dict) and isinstance(models.get("experts"), dict):
        experts = [short(str(name), 40) for name in models["experts"]]
    named = f" ({listed(experts)})" if 0 < len(experts) <= 6 else ""
    return (
        "Can a language model that learns from the scores of its own programs write a merge program that beats "
        f"every expert it merges{named} and the merge methods people designed?"
    )


def answer(result: CampaignResult) -> Answer:
    """The answer to `asked`, true to whatever the result holds."""
    if not result.finished:
        return Answer("In progress", "open", _so_far(result))
    winner = winner_of(result)
    if winner is None:
        drawn = sum(r.samples for r in result.iterations)
        valid = sum(round(r.valid_share * r.samples) for r in result.iterations)
        return Answer("No", "bad", f"no winner was found: of {counted(drawn, 'program')} drawn, {valid:,} were valid.")
    found = comparisons(result)
    model, human = hardest(found, "seed", "expert"), hardest(found, "human")
    bars = [a for a in (model, human) if a is not None]
    if not bars:
        return Answer(
            "Not shown", "open", f"{_opening(result, winner)}, but it was compared with no expert and no human merge."
        )
    signs = [sign(a.comparison.difference) for a in bars]
    sentence = f"{_opening(result, winner)}, {_clauses(bars)}."
    missing = [name for a, name in ((model, "single model"), (human, "human-designed merge")) if a is None]
    if missing:
        sentence = f"{sentence[:-1]}; it was compared with no {missing[0]}."
    if role_of(winner) not in ("trained", "untrained"):
        return Answer("No", "bad", sentence)
    if "below" in signs:
        return Answer("No", "bad", sentence)
    if "open" in signs or missing:
        return Answer("Not shown", "open", sentence)
    return Answer("Yes", "good", sentence)


def learned(result: CampaignResult) -> Answer | None:
    """Whether the factory got better at writing programs; None when there is no untrained arm to tell."""
    gain = result.learned_gain
    if gain is None:
        return None
    last = max((r.iteration for r in result.iterations), default=0)
    factories = [r.factory_sha256 for r in result.iterations if r.iteration == last]
    if len(factories) == 2 and factories[0] == factories[1]:
        told = f"{points(gain.value)} points {bounds(gain, True)}"
        return Answer(
            "Not shown",
            "open",
            f"both arms drew their last programs from one and the same factory, so {told} is chance.",
        )
    number = f"{size(gain.value)} {'higher' if gain.value >= 0 else 'lower'}, interval {bounds(gain, True)}"
    scores = f"fresh programs of the trained factory scored on average {number}, compared with the untrained factory"
    side = sign(gain)
    if side == "above":
        return Answer("Yes", "good", f"{scores}; the interval lies above 0.")
    if side == "below":
        return Answer("No, it got worse", "bad", f"{scores}; the interval lies below 0.")
    return Answer(
        "Not shown", "open", f"{scores}; the interval includes 0: no evidence that training helped or harmed."
    )


def winners_curse(winner: Contender) -> str:
    """What became of the winner's search score on questions the search never saw; empty when that is not known."""
    search, validation = card_of(winner, "search"), card_of(winner, "validation")
    if search is None or validation is None:
        return ""
    fall = search.score - validation.score
    if fall <= 0:
        return (
            f"Search score {percent(search.score)}, validation score {percent(validation.score)}: "
            "no fall from search to validation, so no sign of a winner's curse."
        )
    return (
        f"The score fell by {size(fall)}, from {percent(search.score)} on search to {percent(validation.score)} on "
        "validation. Whoever is picked as the best of many on some questions was partly lucky on them (the winner's "
        "curse), so the search score is no result."
    )


def picked(result: CampaignResult) -> str:
    """Whether the winner is the one its rule picks (best validation score of the finalists), and who stands above it."""
    winner = winner_of(result)
    mine = card_of(winner, "validation") if winner else None
    if winner is None or mine is None:
        return "It has no validation score, so the rule that picks a winner cannot be checked here."
    above: dict[str, list[str]] = {"finalist": [], "human": [], "model": []}
    for other in result.leaderboard:
        card = card_of(other, "validation")
        if card is not None and card.score > mine.score:
            kind = "finalist" if other.kind.startswith("discovered") else "human" if other.kind == "human" else "model"
            above[kind].append(f"{label_of(other)} ({percent(card.score)})")
    if above["finalist"]:
        better = listed(above["finalist"][:3])
        text = f"Another program scores higher on validation: {better}; the winner is not the rule's."
    else:
        text = "It is the finalist with the best validation score, which is the rule that was set beforehand."
    for kind, name in (("human", "human-designed merge"), ("model", "single model")):
        if above[kind]:
            number = len(above[kind])
            verb = "scores" if number == 1 else "score"
            text += f" {counted(number, name)} {verb} higher there: {listed(above[kind][:3])}"
            text += "." if number <= 3 else " and others."
    return text


def _so_far(result: CampaignResult) -> str:
    scores = [score for r in result.iterations for score in r.sample_scores]
    if not scores:
        return "no program has been scored yet."
    return (
        f"the best of {counted(len(scores), 'program')} drawn so far scores {percent(max(scores))} on the search "
        "questions, a score that flatters whoever is picked by it and is not a result."
    )


def _opening(result: CampaignResult, winner: Contender) -> str:
    for split in ("test", "validation", "search"):
        card = card_of(winner, split)
        if card is not None:
            score = wilson(card.outcomes.count("right"), len(card.outcomes))
            what = f"{percent(score.value)} {bounds(score)} of the {counted(len(card.outcomes), f'{split} question')}"
            return f"the winner “{label_of(winner)}”, {_author(result, winner)}, answers {what}"
    return f"the winner “{label_of(winner)}” has no score"


def _author(result: CampaignResult, winner: Contender) -> str:
    drawn = [r for r in result.iterations if any(c.algorithm_id == winner.subject for c in r.candidates)]
    first = next((r.factory_sha256 for r in result.iterations), "")
    if drawn and role_of(winner) == "trained" and any(r.factory_sha256 == first for r in drawn):
        return "written by the factory before any training"
    return _AUTHORS.get(role_of(winner), "of unknown origin")


def _clauses(bars: list[Against]) -> str:
    parts = [_clause(bar) for bar in bars]
    if len(parts) == 1:
        return parts[0]
    sides = [sign(bar.comparison.difference) for bar in bars]
    return f"{parts[0]}, {'and' if sides[0] == sides[1] else 'but'} {parts[1]}"


def _clause(bar: Against) -> str:
    name = {"seed": "the seed model", "expert": "the best expert", "human": "the best human-designed merge"}[bar.role]
    name = name if bar.role == "seed" else f"{name} ({bar.name})"
    difference = bar.comparison.difference
    interval = f"interval {bounds(difference, True)}"
    side = sign(difference)
    if side != "open":
        return f"{size(difference.value)} {side} {name}, {interval}"
    if difference.value == 0:
        return f"level with {name}, {interval}"
    where = "above" if difference.value > 0 else "below"
    return f"{size(difference.value)} {where} {name}, {interval}, which includes 0 and so shows no difference"
