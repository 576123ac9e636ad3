"""How fast and how wordy: rates that were stated, measured in an earlier campaign, or assumed. Each says which."""

from __future__ import annotations

from typing import NamedTuple

from selfdev_core.ledger import Ledger, StageTotal
from selfdev_core.result import CampaignResult

ASSUMED_SHARE = 0.5
ASSUMED_LENGTH = 0.5
ASSUMED_CHECK_SECONDS = 0.1


class Rate(NamedTuple):
    """A number and where it comes from, in words that end a sentence."""

    value: float
    source: str


class Rates(NamedTuple):
    """None: not known, so what depends on it is not computed.

    evaluated: distinct programs evaluated per program drawn. program_tokens, answer_tokens: per program and per answer, as a
    share of the length limit. sampling, answering: tokens per second of one device. checking, merging: seconds per program.
    training: seconds per update. missing: why a speed is not known, and the mend.
    """

    evaluated: Rate
    program_tokens: Rate
    answer_tokens: Rate
    sampling: Rate | None = None
    answering: Rate | None = None
    checking: Rate = Rate(ASSUMED_CHECK_SECONDS, "assumed")
    merging: Rate | None = None
    training: Rate | None = None
    missing: str = "give --tokens-per-second, or --like an earlier campaign"


def assumed(tokens_per_second: float | None = None, evaluated: float | None = None) -> Rates:
    """Rates without a measured campaign: what was stated on the command line, the rest assumed."""
    speed = None if tokens_per_second is None else Rate(tokens_per_second, "as stated")
    share = Rate(ASSUMED_SHARE, "assumed") if evaluated is None else Rate(evaluated, "as stated")
    half = Rate(ASSUMED_LENGTH, "assumed")
    return Rates(evaluated=share, program_tokens=half, answer_tokens=half, sampling=speed, answering=speed)


def measured(
    result: CampaignResult, ledger: Ledger, program_limit: int, answer_limit: int, like: Rates, same_models: bool
) -> Rates:
    """Rates of an earlier campaign, from its result and its ledger. What `like` has as stated stays as it is.

    `program_limit`, `answer_limit`: that campaign's length limits, tokens. `same_models`: whether its models are of this
    campaign's size and merged to the same extent; else only shares are taken, for its speeds say nothing of these.
    """
    source = f"measured in campaign {result.name}" + ("" if same_models else ", on other models")
    generate, evaluate = _stage(ledger, "generate"), _stage(ledger, "evaluate")
    drawn = sum(r.samples for r in result.iterations if (r.arm, r.iteration) != ("untrained", 1))  # shared
    evaluated = len({c.representative for r in result.iterations for c in r.candidates if c.verdict.accepted})

    def rate(amount: float, per: float, otherwise: Rate) -> Rate:
        return Rate(amount / per, source) if amount and per else otherwise

    def on(stage: StageTotal) -> str:
        return " on ".join((source, *filter(None, [", ".join(sorted(stage.occupied))])))

    def speed(stage: StageTotal, stated: Rate | None) -> Rate | None:
        held = sum(stage.occupied.values())
        if stated is not None or not held or not stage.cost.tokens:
            return stated
        return Rate(stage.cost.tokens / held, on(stage))

    def seconds(name: str, otherwise: Rate | None) -> Rate | None:
        stage = _stage(ledger, name)
        return Rate(stage.cost.seconds / stage.units, on(stage)) if stage.units else otherwise

    share = like.evaluated if like.evaluated.source == "as stated" else rate(evaluated, drawn, like.evaluated)
    shares = like._replace(
        evaluated=share,
        program_tokens=rate(generate.cost.tokens, generate.cost.programs * program_limit, like.program_tokens),
        answer_tokens=rate(evaluate.cost.tokens, evaluate.cost.questions * answer_limit, like.answer_tokens),
    )
    if not same_models:
        return shares._replace(
            missing=f"campaign {result.name} ran on other models (or some that are gone), or another scope: give "
            "--tokens-per-second"
        )
    return shares._replace(
        sampling=speed(generate, like.sampling),
        answering=speed(evaluate, like.answering),
        checking=seconds("validate", like.checking) or like.checking,
        merging=seconds("merge", like.merging),
        training=seconds("train", like.training),
    )


def _stage(ledger: Ledger, name: str) -> StageTotal:
    return ledger.stages.get(name, StageTotal())
