"""Everything that a campaign will need, line by line, from its configuration, its models and rates."""

from __future__ import annotations

from selfdev_core.config import CampaignConfig
from selfdev_core.planning.amounts import Amounts, amounts, arms_of
from selfdev_core.planning.disk import disk_lines
from selfdev_core.planning.facts import HOME, Facts
from selfdev_core.planning.gpu import gpu_lines
from selfdev_core.planning.hours import parts
from selfdev_core.planning.lines import GB, Amount, Line, total
from selfdev_core.planning.memory import HALF
from selfdev_core.planning.rates import Rates

_NO_PRICE = "set budget.price_per_device_hour"


def plan(config: CampaignConfig, facts: Facts, rates: Rates) -> list[Line]:
    """Lines in the order in which they are shown."""
    found = amounts(config, facts.home, facts.targets, facts.human, facts.methods, facts.factory_prompt, rates)
    return [
        *_downloads(facts),
        *disk_lines(config, facts, found),
        *gpu_lines(config, facts, found.updates),
        *_work(config, facts, found, rates),
        *_time(config, facts, found, rates),
    ]


def _downloads(facts: Facts) -> list[Line]:
    lines = [_of(one.name, one.amount(one.download), one.how) for one in facts.distinct]
    return [*lines, _of("all models", facts.downloads, f"sum of {len(lines)}")]


def _of(what: str, amount: Amount, how: str) -> Line:
    return Line("downloads", what, amount.expected / GB, amount.at_most / GB, "GB", how)


def _work(config: CampaignConfig, facts: Facts, found: Amounts, rates: Rates) -> list[Line]:
    factory, arms = config.factory, arms_of(config)

    def line(what: str, amount: Amount, how: str, unit: str = "") -> Line:
        return Line("work", what, amount.expected, amount.at_most, unit, how)

    share, words, answers = rates.evaluated, rates.program_tokens, rates.answer_tokens
    steps = config.dpo.steps_over(config.preference.pairs)
    return [
        line("programs drawn", found.drawn,
             f"{factory.samples} × {factory.iterations} iterations × {arms} arms, iteration 1 shared; {found.updates} guards of "
             f"{config.dpo.guard_samples}; at most: every guard three times, 4 more rounds in each further arm"),
        line("programs evaluated", found.evaluated, f"{share.value:.0%} of those drawn, {share.source}; at most: all"),
        line("questions answered", found.questions,
             f"{facts.home.search} per evaluated program, {facts.human} human-designed merges and plain models; finalists on "
             f"{facts.home.validation}, 5 on {facts.home.test}" + ("; and the same per transfer" if facts.targets else "")),
        line("tokens sampled in programs", found.program_tokens,
             f"{words.value:.0%} of the limit of {factory.max_new_tokens}, {words.source}"),
        line("tokens sampled in answers", found.answer_tokens,
             f"{answers.value:.0%} of the limit of {facts.home.answer_limit}, {answers.source}"),
        line("tokens trained on", found.training_tokens,
             f"{found.updates} updates × {steps} steps × {config.dpo.batch_size} pairs, both sides, with the prompt"),
    ]  # fmt: skip


def devices_of(config: CampaignConfig) -> int:
    """How many engines answer at once: GPUs of vLLM by `tensor_parallel`, else workers."""
    engine = config.engine
    if engine.kind == "vllm" and not engine.no_gpu:
        return len(engine.urls) or max(1, (engine.gpus or 0) // engine.tensor_parallel)
    return config.resources.workers


def _time(config: CampaignConfig, facts: Facts, found: Amounts, rates: Rates) -> list[Line]:
    home = facts.models[HOME]
    scope = home[0].shape.merged(config.models.scope) * HALF if home[0].shape else home[0].size
    made = parts(found, rates, home[0].amount(scope * (len(home) + 1)), config.sandbox.device != "cpu")
    price, currency = config.budget.price_per_device_hour, config.budget.currency
    lines = []
    for part in made:
        expected, at_most = part.hours or (None, None)
        unit = "device hours" if part.on_device else "CPU hours"
        lines.append(Line("time", part.what, expected, at_most, unit, part.how))
    if any(part.hours is None for part in made):
        unknown = "not every rate is known"
        lines.append(Line("time", "all", None, None, "device hours", unknown))
        return [*lines, Line("cost", "all", None, None, currency, unknown if price else f"{unknown}; {_NO_PRICE}")]
    devices, workers = devices_of(config), config.resources.workers
    busy, beside = (
        total(part.hours for part in made if part.hours and part.on_device == which) for which in (True, False)
    )
    lines.append(Line("time", "all", *busy, "device hours", "sum; what runs on CPUs is not in it"))
    wall = busy.times(1.0 / devices) + beside.times(1.0 / workers)
    how = f"on {devices} device(s), always busy, and {workers} programs at once on CPUs, one after the other"
    lines.append(Line("time", "wall time", *wall, "hours", how))
    if price is None:
        return [*lines, Line("cost", "all", None, None, currency, _NO_PRICE)]
    how = f"{price:g} per device hour (budget.price_per_device_hour)"
    return [*lines, Line("cost", "all", *busy.times(price), currency, how)]
