"""The measurements behind the gates: the seed as a solver and as a factory, the experts, and what merging adds.

Coefficients are chosen on the search split and judged on the validation split, so picking the best of a grid does
not flatter the merging gain. The test split is never read here.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from selfdev_core.miniature.gates import sample_programs, valid_programs
from selfdev_core.miniature.merges import Delta, TaskVectors, applied, program_runner, task_vectors, weighted
from selfdev_core.miniature.problems import questions
from selfdev_core.miniature.scoring import drill_exam, greedy_right, problem_exam

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

_SEARCH_QUESTIONS, _VALIDATION_QUESTIONS, _DRILLS = 192, 384, 400
_UNIFORM = tuple(round(0.1 * tenth, 1) for tenth in range(2, 17))
_PAIRS = tuple((a, b) for a in (0.3, 0.5, 0.7, 0.9, 1.2, 1.6) for b in (0.15, 0.3, 0.45, 0.6, 0.8, 1.0))
_PROGRAMS, _PROGRAM_QUESTIONS = 48, 96
_SAMPLED = 128  # programs of the seed at each temperature


class Measurements(NamedTuple):
    """Values by gate name, and further figures worth recording."""

    gates: dict[str, float]
    record: dict[str, float]


def measure_seed(seed: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, family: str, number: int) -> Measurements:
    """Drills, word problems and sampled programs of the seed alone (`number` is the build's training seed)."""
    hot, warm = (sample_programs(seed, tokenizer, _SAMPLED, temperature, number) for temperature in (1.2, 1.0))
    judged = questions(family, "validation", _VALIDATION_QUESTIONS)
    return Measurements(
        {
            "drill accuracy": drill_exam(tokenizer, _DRILLS, number).accuracy(seed),
            "seed accuracy": statistics.fmean(greedy_right(seed, tokenizer, judged)),
            "valid programs at 1.0": statistics.fmean(valid_programs(warm)),
            "valid programs at 1.2": statistics.fmean(valid_programs(hot)),
            "distinct programs": len(set(warm[: _SAMPLED // 2])) / (_SAMPLED // 2),
        },
        {"tokens per program": statistics.fmean(len(tokenizer(source)["input_ids"]) for source in warm)},
    )


def measure_merging(
    seed: LlamaForCausalLM,
    experts: Mapping[str, LlamaForCausalLM],
    tokenizer: PreTrainedTokenizerFast,
    family: str,
    scope: str,
    number: int,
    progress: Callable[[float], None],
) -> Measurements:
    """The experts, the best uniform and unequal sums, and the untrained factory's programs; `progress` gets 0 to 1."""
    judged = questions(family, "validation", _VALIDATION_QUESTIONS)
    vectors = task_vectors(seed, experts, scope)
    search = problem_exam(tokenizer, questions(family, "search", _SEARCH_QUESTIONS))

    def searched(delta: Delta) -> float:
        with applied(seed, delta) as merged:
            return search.accuracy(merged)

    def validated(delta: Delta) -> float:
        with applied(seed, delta) as merged:
            return statistics.fmean(greedy_right(merged, tokenizer, judged))

    alone = {name: statistics.fmean(greedy_right(expert, tokenizer, judged)) for name, expert in experts.items()}
    start = statistics.fmean(greedy_right(seed, tokenizer, judged))
    progress(0.15)
    uniform = max(_UNIFORM, key=lambda c: searched(_uniform(vectors, c)))
    progress(0.35)
    pair = max(_PAIRS, key=lambda pair: searched(_unequal(vectors, pair)))
    progress(0.75)
    best_uniform = validated(_uniform(vectors, uniform))
    best_pair = validated(_unequal(vectors, pair))
    with program_runner(vectors) as run:
        deltas = map(run, sample_programs(seed, tokenizer, _PROGRAMS, 1.0, number + 1))
        scores = [0.0 if delta is None else searched(delta) for delta in deltas]
    progress(1.0)
    norms = {name: _norm(vectors, name) for name in experts}
    return Measurements(
        {
            "weaker expert's gain over the seed": min(alone.values()) - start,
            "ratio of task vector norms": max(norms.values()) / max(min(norms.values()), 1e-9),
            "merging gain": best_uniform - max(alone.values()),
            "mean program score": statistics.fmean(scores),
        },
        {
            **{f"{name} accuracy": value for name, value in alone.items()},
            **{f"{name} task vector norm": value for name, value in norms.items()},
            "best uniform coefficient": uniform,
            "best uniform accuracy": best_uniform,
            **{f"{name} coefficient of the best pair": value for name, value in zip(experts, pair, strict=True)},
            "best pair accuracy": best_pair,
            "headroom of unequal coefficients": best_pair - best_uniform,
            "best sampled program (search)": max(scores),
        },
    )


def _unequal(vectors: TaskVectors, pair: tuple[float, float]) -> Delta:
    names = next(iter(vectors.by_parameter.values()))
    return weighted(vectors, dict(zip(names, pair, strict=True)))


def _uniform(vectors: TaskVectors, coefficient: float) -> Delta:
    names = next(iter(vectors.by_parameter.values()))
    return weighted(vectors, {name: coefficient for name in names})


def _norm(vectors: TaskVectors, expert: str) -> float:
    return math.sqrt(sum(float(taus[expert].square().sum()) for taus in vectors.by_parameter.values()))
