"""GPU memory of a campaign, line by line: of one GPU, with all that lies on it at once.

A vLLM engine has its GPUs to itself. With transformers the workers share one, and each keeps what it has loaded.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from selfdev_core.config import CampaignConfig
from selfdev_core.planning.amounts import GUARD_TRIES
from selfdev_core.planning.facts import HOME, UNKNOWN, Facts
from selfdev_core.planning.lines import GB, Amount, Line, exactly, size_of
from selfdev_core.planning.memory import FULL, HALF, OWN, serving, training
from selfdev_core.planning.shapes import Shape
from selfdev_core.workers.models import KEPT


class Sharing(NamedTuple):
    """Workers whose models lie on one GPU, of them those that draw programs, and how many models they hold all together.

    `sampling`: in the search; `answering`: also when the experts are scored. `most`: models of one worker at most, with one that
    is just loaded while the oldest has not gone yet. `seeds`: models of one worker, at most, into which merges are put.
    """

    workers: int
    drawing: int
    sampling: int
    answering: int
    most: int
    seeds: int


def sharing(config: CampaignConfig, facts: Facts, updates: int) -> Sharing:
    """By transformers. On Ray a worker ends with its task run, so that it holds one model as a rule."""
    resources, experts = config.resources, facts.home.experts
    most = min(KEPT + 1, len(facts.distinct) + GUARD_TRIES * updates)
    seeds = min(most, len(facts.models))
    if resources.runner == "ray":
        per_gpu = int(1 / resources.gpus_per_worker) if resources.gpus_per_worker else resources.workers
        workers = min(resources.workers, max(1, per_gpu))
        return Sharing(workers, workers, workers, workers, most, seeds)
    workers = resources.workers
    sampling = workers + (config.factory.iterations > 1)  # worker 0 draws from the trained factory, and answers too
    answering = workers * min(KEPT, 1 + math.ceil(experts / workers))
    return Sharing(workers, 1, sampling, max(sampling, answering), most, seeds)


def gpu_lines(config: CampaignConfig, facts: Facts, updates: int) -> list[Line]:
    """Sampling, answering and DPO; without the seed's shape, its weights only."""
    seed, transformers = facts.models[HOME][0], config.engine.kind == "transformers"
    shared = sharing(config, facts, updates)
    if seed.shape is None:
        how = f"{HALF} bytes per parameter"
        weights = seed.amount((seed.parameters or 0.0) * HALF / GB)
        if transformers:
            weights = weights.times(shared.answering, shared.workers * shared.most)
            how += f"; {shared.answering} models in {shared.workers} workers, at most {shared.most} in each"
        return [
            Line("gpu memory", "weights", weights.expected or None, weights.at_most or None, "GB", how),
            Line("gpu memory", "key-value cache, training", None, None, "GB", UNKNOWN),
        ]
    text = facts.factory_prompt + config.factory.max_new_tokens
    asked = facts.question_prompt + facts.home.answer_limit
    drawn, answered = (config.factory.batch_size, text), (config.questions.batch_size, asked)
    if transformers:
        lines = [
            _in_workers("sampling programs", config, seed.shape, shared, shared.sampling, shared.drawing, *drawn),
            _in_workers("answering questions", config, seed.shape, shared, shared.answering, shared.workers, *answered),
        ]
    else:
        lines = [
            _in_engine("sampling programs", config, seed.shape, *drawn),
            _in_engine("answering questions", config, seed.shape, *answered),
        ]
    return [*lines, _dpo(config, seed.shape, shared if transformers else None, text)]


def _in_engine(what: str, config: CampaignConfig, shape: Shape, sequences: int, tokens: int) -> Line:
    spread = config.engine.tensor_parallel
    need = serving(shape, sequences, tokens, spread)
    how = (
        f"{size_of(need.weights)} of weights, {size_of(need.cache)} of key-value cache ({sequences} texts × {tokens:,} "
        f"tokens), 1 GB of CUDA's own{f'; on each of {spread} GPUs' if spread > 1 else ''}; vLLM takes "
        f"{config.engine.gpu_memory_utilization:.0%} of the GPU and puts as many texts in it as fit"
    )
    return Line("gpu memory", what, need.total / GB, need.total / GB, "GB", how)


def _in_workers(
    what: str,
    config: CampaignConfig,
    shape: Shape,
    shared: Sharing,
    models: int,
    busy: int,
    sequences: int,
    tokens: int,
) -> Line:
    """`models`: of all workers together; `busy`: workers that hold a key-value cache."""
    need = serving(shape, sequences, tokens)
    replaced = shape.merged(config.models.scope) * HALF
    adapter = _adapter(config, shape)
    held = Amount(
        models * need.weights + shared.workers * replaced + adapter,
        shared.workers * (shared.most * need.weights + shared.seeds * replaced)
        + shared.drawing * shared.most * adapter,
    )
    total = held + exactly(busy * need.cache + shared.workers * OWN)
    how = (
        f"{models} models of {size_of(need.weights)} in {shared.workers} workers on one GPU, {size_of(replaced)} in each of what "
        f"merges replace{f', {size_of(adapter)} of adapter' if adapter else ''}; {busy} × {size_of(need.cache)} of key-value "
        f"cache ({sequences} texts × {tokens:,} tokens), 1 GB of CUDA's own each; at most {shared.most} models in each worker"
    )
    return Line("gpu memory", what, total.expected / GB, total.at_most / GB, "GB", how)


def _dpo(config: CampaignConfig, shape: Shape, shared: Sharing | None, text: int) -> Line:
    """Worker 0 trains and has given up its models; the others that share its GPU (`shared`) have not."""
    dpo = config.dpo
    rank = dpo.lora_rank if dpo.method == "lora" else None
    longest = min(text, dpo.max_length or text)
    needed = training(shape, rank, dpo.per_process, longest)
    how = (
        f"{size_of(needed.weights)} of frozen weights, {size_of(needed.trained)} for {f'LoRA-{rank}' if rank else 'all weights'} "
        f"and Adam, {size_of(needed.activations)} of activations ({dpo.per_process} pairs × {longest:,} tokens)"
    )
    total = exactly(needed.total)
    if shared is not None and shared.workers > 1:
        weights, replaced = shape.parameters * HALF, shape.merged(config.models.scope) * HALF
        each = Amount(weights + replaced + OWN, shared.most * weights + shared.seeds * replaced + OWN)
        total += each.times(shared.workers - 1)
        how += f"; {size_of(each.expected)} in each of {shared.workers - 1} other workers on the GPU"
    return Line("gpu memory", "DPO", total.expected / GB, total.at_most / GB, "GB", how)


def _adapter(config: CampaignConfig, shape: Shape) -> float:
    """Bytes of a trained factory's adapter beside its base, in float32."""
    trained = config.dpo.method == "lora" and config.factory.iterations > 1
    return float(shape.lora(config.dpo.lora_rank) * FULL) if trained else 0.0
