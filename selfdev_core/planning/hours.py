"""Hours of a campaign from rates: sampling, answering, checking, merging, training. None where a rate is not known."""

from __future__ import annotations

from typing import NamedTuple

from selfdev_core.planning.amounts import Amounts
from selfdev_core.planning.lines import GB, Amount, exactly, size_of
from selfdev_core.planning.rates import Rate, Rates

HOUR = 3600.0
READ_GB_PER_SECOND = 1.0  # assumed of a disk, where no merge was measured


class Part(NamedTuple):
    """Hours of one kind of work, on the devices that hold models or on processors; `how`: their computation in words."""

    what: str
    hours: Amount | None
    how: str
    on_device: bool = True


def parts(found: Amounts, rates: Rates, merged_bytes: Amount, merges_on_device: bool) -> list[Part]:
    """`merged_bytes`: read and written by one merge."""
    return [
        _spoken("sampling programs", found.program_tokens, rates.sampling, rates.missing),
        _spoken("answering questions", found.answer_tokens, rates.answering, rates.missing),
        Part("checking programs", _seconds(found.drawn, rates.checking.value), _per("program", rates.checking), False),
        _merging(found, rates, merged_bytes)._replace(on_device=merges_on_device),
        _training(found, rates),
    ]


def _spoken(what: str, tokens: Amount, rate: Rate | None, missing: str) -> Part:
    if rate is None:
        return Part(what, None, f"no rate: {missing}")
    how = f"{tokens.expected:,.0f} tokens at {rate.value:,.0f} per second and device, {rate.source}"
    return Part(what, _seconds(tokens, 1.0 / rate.value), how)


def _merging(found: Amounts, rates: Rates, merged_bytes: Amount) -> Part:
    each = merged_bytes.times(1.0 / GB / READ_GB_PER_SECOND) if rates.merging is None else exactly(rates.merging.value)
    rate = rates.merging or Rate(
        each.expected,
        f"assumed: {size_of(merged_bytes.expected)} read and written at {READ_GB_PER_SECOND:g} GB per second",
    )
    how = (
        f"{found.merged.expected:,.0f} merges (those scored on further splits are merged again), {_per('merge', rate)}"
    )
    return Part("merging", found.merged.times(each.expected / HOUR, each.at_most / HOUR), how)


def _training(found: Amounts, rates: Rates) -> Part:
    if rates.training is not None:
        seconds = Amount(found.updates, found.updates).times(rates.training.value)
        return Part("training the factory", _seconds(seconds, 1.0), _per("update", rates.training))
    if rates.sampling is None:
        return Part("training the factory", None, f"no rate: {rates.missing}")
    how = f"{found.training_tokens.expected:,.0f} tokens of pairs, assumed as slow as sampling"
    return Part("training the factory", _seconds(found.training_tokens, 1.0 / rates.sampling.value), how)


def _seconds(amount: Amount, each: float) -> Amount:
    return amount.times(each / HOUR)


def _per(what: str, rate: Rate) -> str:
    return f"{rate.value:,.3g} s per {what}, {rate.source}"
