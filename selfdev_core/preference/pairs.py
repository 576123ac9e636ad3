"""Which programs are preferred to which: the paper's rule and a stable one for small factories."""

from __future__ import annotations

import math
import random
from typing import NamedTuple

from selfdev_core.algorithm.prompt import continuation_of
from selfdev_core.config import PreferenceConfig
from selfdev_core.records import Candidate, PairsManifest, PreferencePair


class Choice(NamedTuple):
    """Programs to prefer and programs to reject, best first and worst last."""

    chosen: list[Candidate]
    rejected: list[Candidate]


def choose_pairs(
    settings: PreferenceConfig, prompt: str, rounds: tuple[tuple[Candidate, ...], ...], seed: int
) -> PairsManifest:
    """Preference pairs of one update. Pairs hold continuations of `prompt`, as DPO needs them.

    A pair is dropped when its chosen program scores no higher than its rejected one; from the rest, at most
    `settings.pairs` are drawn, seeded, every chosen program equally often.
    """
    choice = _paper(settings, rounds) if settings.strategy == "paper" else _stable(settings, rounds)
    preferred = {winner.algorithm_id for winner in choice.chosen}
    rejected = [(loser, _value(loser)) for loser in choice.rejected if loser.algorithm_id not in preferred]
    rng = random.Random(seed)
    by_chosen = []
    for winner in choice.chosen:
        score = winner.score
        losers = [loser for loser, value in rejected if value < score]
        rng.shuffle(losers)
        by_chosen.append([(winner, loser) for loser in losers])
    pairs: list[tuple[Candidate, Candidate]] = []
    for turn in range(max((len(row) for row in by_chosen), default=0)):
        pairs += [row[turn] for row in by_chosen if turn < len(row)]
    kept = tuple(_pair(prompt, winner, loser) for winner, loser in pairs[: settings.pairs])
    note = "" if kept else "no program scores higher than another, so there is nothing to prefer"
    return PairsManifest(strategy=settings.strategy, pairs=kept, note=note)


def _paper(settings: PreferenceConfig, rounds: tuple[tuple[Candidate, ...], ...]) -> Choice:
    """Top p_w and bottom p_l of this iteration's valid programs; the best few of each earlier iteration join as chosen."""
    ranked = _ranked(rounds[-1])
    chosen = ranked[: _count(settings.p_w, len(ranked))]
    rejected = ranked[len(ranked) - _count(settings.p_l, len(ranked)) :]
    for earlier in rounds[:-1]:
        chosen = _join(chosen, _ranked(earlier)[: settings.carry_over])
    return Choice(chosen, rejected)


def _stable(settings: PreferenceConfig, rounds: tuple[tuple[Candidate, ...], ...]) -> Choice:
    """Top and bottom shares over all rounds so far, and every invalid program as rejected (our choice)."""
    everything = _ranked(tuple(candidate for one in rounds for candidate in one))
    chosen = everything[: _count(settings.p_w, len(everything))]
    for earlier in rounds[:-1]:
        chosen = _join(chosen, _ranked(earlier)[: settings.carry_over])
    rejected = everything[len(everything) - _count(settings.p_l, len(everything)) :]
    invalid = _distinct([c for one in rounds for c in one if not c.verdict.accepted])
    return Choice(chosen, rejected + invalid)


def _ranked(candidates: tuple[Candidate, ...]) -> list[Candidate]:
    """Distinct valid programs, best score first; equal scores keep the order in which they were drawn."""
    valid = _distinct([c for c in candidates if c.verdict.accepted])
    return sorted(valid, key=lambda c: -c.score)


def _distinct(candidates: list[Candidate]) -> list[Candidate]:
    first: dict[str, Candidate] = {}
    for candidate in candidates:
        first.setdefault(candidate.algorithm_id, candidate)
    return list(first.values())


def _join(chosen: list[Candidate], more: list[Candidate]) -> list[Candidate]:
    known = {c.algorithm_id for c in chosen}
    return chosen + [c for c in more if c.algorithm_id not in known]


def _count(share: float, total: int) -> int:
    """At least one, never more than there are; the share rounded up (0.07 of 100 is 7, whatever binary fractions say)."""
    return min(total, max(1, math.ceil(round(share * total, 9)))) if total else 0


def _value(candidate: Candidate) -> float:
    """An invalid program ranks under every valid one."""
    return candidate.score if candidate.verdict.accepted else -1.0


def _pair(prompt: str, winner: Candidate, loser: Candidate) -> PreferencePair:
    return PreferencePair(
        chosen=continuation_of(prompt, winner.source),
        rejected=continuation_of(prompt, loser.source),
        chosen_id=winner.algorithm_id,
        rejected_id=loser.algorithm_id,
        chosen_score=winner.score,
        rejected_score=loser.score,
    )
