"""Disk of a campaign, line by line: the store, the cache, scratch space. `At most` holds while nothing is killed: what a killed
process leaves goes with the next one, or with `selfdev gc`.
"""

from __future__ import annotations

from selfdev_core.config import CampaignConfig
from selfdev_core.planning.amounts import GUARD_TRIES, Amounts, arms_of
from selfdev_core.planning.facts import HOME, UNKNOWN, Facts
from selfdev_core.planning.lines import GB, Amount, Line, exactly, size_of
from selfdev_core.planning.memory import FULL, HALF
from selfdev_core.planning.models import ModelFacts
from selfdev_core.store.location import is_url

# On the miniature, store and campaign folder together, measured:
RECORD_BYTES = 5_000  # of a program: sample, verdict, places in records of iterations and tasks, lines of the ledger
TOKEN_BYTES = 14  # of a token of its text, which stands in four of these
OUTCOME_BYTES = 30  # of a graded question, with what surrounds its scorecard
WAITING = 2.0 * 2**30  # bytes of merged weights that may wait
MOMENTS = 2  # numbers that Adam keeps of each trained weight


def disk_lines(config: CampaignConfig, facts: Facts, found: Amounts) -> list[Line]:
    """What fills the disk, and all of it with the downloads."""
    seed = facts.models[HOME][0]
    records = found.drawn.times(RECORD_BYTES) + found.program_tokens.times(TOKEN_BYTES)
    records += found.questions.times(OUTCOME_BYTES)
    how = f"{RECORD_BYTES} bytes per program, {TOKEN_BYTES} per token of its text, {OUTCOME_BYTES} per graded question"
    waiting = seed.amount(config.resources.workers * seed.size)
    waiting += Amount(0.0, WAITING if seed.size <= WAITING else 0.0)
    lines = [
        *_factories(config, seed, found.updates),
        _line("records in the store", records, how),
        _line(
            "scratch (TMPDIR): merged weights",
            waiting,
            f"each of {config.resources.workers} workers evaluates a merged model; at most: small ones beside, up to 2 GiB, wait",
        ),
        *_adapter_in_vllm(config, seed, found.updates),
    ]
    if any(line.expected is None for line in lines):
        return [*lines, Line("disk", "all", None, None, "GB", "not every size is known")]
    sums = (sum(getattr(line, which) for line in lines) for which in ("expected", "at_most"))
    expected, at_most = (one + more / GB for one, more in zip(sums, facts.downloads, strict=True))
    return [*lines, Line("disk", "all", expected, at_most, "GB", "with the downloads")]


def _factories(config: CampaignConfig, seed: ModelFacts, updates: int) -> list[Line]:
    """Every update leaves a factory: a LoRA adapter or a whole checkpoint, in float32. More lies there while it is made."""
    dpo, lora = config.dpo, config.dpo.method == "lora"
    stored, cached, making, saves = (
        "factories in the store",
        "factories in the cache",
        "scratch (TMPDIR): factories in training",
        "saves of training in the cache",
    )
    saving = updates > 0 and dpo.steps_over(config.preference.pairs) > config.resources.save_steps
    weights = seed.parameters
    if lora:
        weights = None if seed.shape is None else seed.shape.lora(dpo.lora_rank)
    if weights is None:
        return [_line(what, None, UNKNOWN) for what in (stored, cached, making, *([saves] if saving else []))]
    size, arms = weights * FULL, arms_of(config) - config.controls.untrained
    kind = f"LoRA-{dpo.lora_rank} adapters" if lora else "checkpoints"
    kept = seed.amount(updates * size).times(1.0, GUARD_TRIES)
    how = f"{updates} {kind} of {size_of(size)}; at most 3 each, when the validity guard shortens an update"
    lines = [_line(stored, kept, how), _cached(cached, config, kept)]
    if updates:
        how = f"one of {size_of(size)} in each of {arms} trained arms; at most a shortened one beside it"
        lines.append(_line(making, seed.amount(arms * size).times(1.0, 2.0), how))
    if saving:
        frozen = lora and config.factory.iterations > 2  # the adapter of before, which later updates are compared with
        save = (1 + frozen + MOMENTS) * size
        how = (
            f"weights{', the adapter of before' if frozen else ''} and Adam's two moments in float32, {size_of(save)}, twice "
            f"while a new save takes the place of the last; at most in each of {arms} trained arms"
        )
        lines.append(_line(saves, seed.amount(2 * save).times(1.0, arms), how))
    return lines


def _cached(what: str, config: CampaignConfig, kept: Amount) -> Line:
    """A fetched factory is hard links to the store's files where one disk holds both, else a copy."""
    if config.store is None:
        return _line(what, exactly(0.0), "hard links to those in the store")
    if is_url(str(config.store)):
        return _line(what, kept, "a copy on this machine of each in the store")
    return _line(
        what, kept.times(0.0, 1.0), "hard links to those in the store; at most copies, if it is on another disk"
    )


def _adapter_in_vllm(config: CampaignConfig, seed: ModelFacts, updates: int) -> list[Line]:
    """vLLM gets a factory as the weights that its adapter changes, written out; the last one goes when the new one is there."""
    if config.engine.kind != "vllm" or config.dpo.method != "lora" or not updates:
        return []
    dtype = config.engine.dtype
    if dtype == "auto":
        dtype = "float32" if config.engine.no_gpu else "bfloat16"
    what, width = "scratch (TMPDIR): adapted weights", FULL if dtype == "float32" else HALF
    if seed.shape is None:
        return [_line(what, None, UNKNOWN)]
    size = seed.shape.linear * width
    how = f"linear layers of the blocks in {dtype}, {size_of(size)}; twice while one factory follows another"
    return [_line(what, Amount((1 + (updates > 1)) * size, 2 * size), how)]


def _line(what: str, amount: Amount | None, how: str) -> Line:
    if amount is None:
        return Line("disk", what, None, None, "GB", how)
    return Line("disk", what, amount.expected / GB, amount.at_most / GB, "GB", how)
