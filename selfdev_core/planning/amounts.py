"""How much a campaign does: programs, questions, tokens. Its configuration fixes the bounds; rates say what to expect."""

from __future__ import annotations

from typing import NamedTuple

from selfdev_core.config import CampaignConfig
from selfdev_core.planning.lines import Amount, exactly
from selfdev_core.planning.rates import Rates
from selfdev_core.schedules import first_temperatures

EXTRA_ROUNDS = 4  # of an arm that evaluated fewer programs than the trained arm
GUARD_TRIES = 3  # the whole update, half of it, a quarter
ASKED_ON_TEST = 5  # winner, seed, best expert, best human-designed, best untrained


class SetSize(NamedTuple):
    """A model set and its questions: experts, and questions per split."""

    experts: int
    search: int
    validation: int
    test: int
    answer_limit: int


class Amounts(NamedTuple):
    """Work of a whole campaign. Tokens are sampled ones; prompts are not among them. `merged`: merges, of which a program that
    is scored again on another split needs another one."""

    drawn: Amount
    evaluated: Amount
    merged: Amount
    questions: Amount
    program_tokens: Amount
    answer_tokens: Amount
    updates: int
    training_tokens: Amount


def amounts(
    config: CampaignConfig,
    home: SetSize,
    targets: tuple[SetSize, ...],
    human: int,
    methods: int,
    prompt_tokens: int,
    rates: Rates,
) -> Amounts:
    """`human`: grid points of human-designed algorithms, of so many `methods`; `prompt_tokens`: of the factory's prompt."""
    factory, arms = config.factory, arms_of(config)
    trained = arms - config.controls.untrained
    updates = (factory.iterations - 1) * trained
    alike = first_temperatures(factory.temperature, config.ablation)
    first = factory.samples * alike  # arms that begin alike share iteration 1
    later = factory.samples * arms * (factory.iterations - 1)
    extra = factory.samples * EXTRA_ROUNDS * (arms - 1)
    search = Amount(first + later, first + later + extra)
    guarded = Amount(updates * config.dpo.guard_samples, GUARD_TRIES * updates * config.dpo.guard_samples)
    drawn = search + guarded

    evaluated = search.times(rates.evaluated.value, 1.0)
    finalists = config.finalists.count * arms
    questions = evaluated.times(home.search) + _end(home, human, methods, finalists)
    answer_tokens = _tokens(questions, home, rates)
    tested = 1 + (methods > 0) + config.controls.untrained  # winner, best human-designed, best untrained
    merged = evaluated + exactly(human + finalists + methods + tested)
    for target in targets:
        carried = (1 + config.controls.untrained) * config.finalists.count
        moved = _end(target, human, methods, carried)
        questions += moved
        answer_tokens += _tokens(moved, target, rates)
        merged += exactly(human + 2 * carried + methods + tested)  # whether it merges at all, then validation

    limit = factory.max_new_tokens
    program_tokens = drawn.times(limit * rates.program_tokens.value, limit)
    pair = Amount(2 * (prompt_tokens + limit * rates.program_tokens.value), 2 * (prompt_tokens + limit))
    shown = updates * config.dpo.steps_over(config.preference.pairs) * config.dpo.batch_size
    return Amounts(drawn, evaluated, merged, questions, program_tokens, answer_tokens, updates, pair.times(shown))


def arms_of(config: CampaignConfig) -> int:
    """Searches side by side: trained, untrained, and one per temperature schedule of the ablation."""
    return 1 + config.controls.untrained + len(config.ablation.temperature)


def _end(size: SetSize, human: int, methods: int, finalists: int) -> Amount:
    """Questions of controls on search, finalists on validation, and those asked on test."""
    plain = 1 + size.experts
    search = (human + plain) * size.search
    validation = (finalists + methods + plain) * size.validation
    test = ASKED_ON_TEST * size.test
    return exactly(search + validation + test)


def _tokens(questions: Amount, size: SetSize, rates: Rates) -> Amount:
    return questions.times(size.answer_limit * rates.answer_tokens.value, size.answer_limit)
