"""Builds a family from nothing: train the seed, train the experts, measure, and keep it only if every gate passes."""

from __future__ import annotations

import copy
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from selfdev_core.miniature.documents import Reader
from selfdev_core.miniature.families import CARD, SEED, FamilyCard
from selfdev_core.miniature.gates import Gate, judge
from selfdev_core.miniature.measure import measure_merging, measure_seed
from selfdev_core.miniature.model import new_model, rounded, save_model
from selfdev_core.miniature.problems import questions, skills_of
from selfdev_core.miniature.recipe import RECIPES, Recipe
from selfdev_core.miniature.scoring import problem_exam
from selfdev_core.miniature.tokenizer import train_tokenizer
from selfdev_core.miniature.training import Shares, train

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

Progress = Callable[[str, float], None]

_STEER_EVERY, _STEER_QUESTIONS = 10, 128
_TOP_UP_RATE = 6e-4
_SEED_DONE, _EXPERTS_DONE = 0.65, 0.88


class BuildOutcome(BaseModel):
    """One try at a family: `failed` names the gates that were missed (none if `passed`), `gates` holds all measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str
    seed: int
    passed: bool
    failed: tuple[str, ...]
    gates: tuple[Gate, ...]
    record: dict[str, float]
    seconds: float


def build_family(name: str, out: Path, seed: int, progress: Progress, recipe: Recipe | None = None) -> BuildOutcome:
    """Train and measure one family; `out` is written, whole, only if every gate passes.

    Args:
        name: a family of `families.FAMILIES`.
        out: the folder to create (`seed/`, one folder per expert, `card.json`); an existing one is replaced.
        seed: the training seed; the same seed gives the same family on the same machine and thread count.
        progress: called with the stage's name and the share of the whole build that is done.
        recipe: the training recipe, the family's own when left out.

    Raises:
        ValueError: unknown family.
    """
    skills_of(name)
    recipe = recipe or RECIPES[name]
    started = time.monotonic()
    tokenizer = train_tokenizer()
    factory = rounded(_train_seed(name, seed, recipe, tokenizer, progress))
    progress("measuring the seed", _SEED_DONE)
    gates, record = measure_seed(factory, tokenizer, name, seed)
    experts: dict[str, LlamaForCausalLM] = {}
    if all(gate.passed for gate in judge(gates)):
        experts = _train_experts(name, seed, recipe, tokenizer, factory, progress)
        merging = measure_merging(
            factory,
            experts,
            tokenizer,
            name,
            recipe.scope,
            seed,
            lambda share: progress("measuring merges", _EXPERTS_DONE + (1 - _EXPERTS_DONE) * share),
        )
        gates, record = {**gates, **merging.gates}, {**record, **merging.record}
    judged = judge(gates)
    failed = tuple(gate.name for gate in judged if not gate.passed)
    seconds = round(time.monotonic() - started, 1)
    record = {key: round(value, 4) for key, value in record.items()}
    if not failed:
        card = FamilyCard(
            family=name,
            training_seed=seed,
            scope=recipe.scope,
            recipe=recipe,
            gates=judged,
            record=record,
            skills={expert: tuple(skill.name for skill in skills_of(name, expert)) for expert in experts},
            seconds=seconds,
        )
        _write(out, tokenizer, {SEED: factory, **experts}, card)
    progress("done", 1.0)
    return BuildOutcome(
        family=name, seed=seed, passed=not failed, failed=failed, gates=judged, record=record, seconds=seconds
    )


def build_until_passes(
    name: str, out: Path, first_seed: int, tries: int, progress: Progress, recipe: Recipe | None = None
) -> tuple[BuildOutcome, ...]:
    """Build under consecutive seeds until one passes; the outcomes of all tries in order; only the last can have passed.

    Raises:
        ValueError: unknown family, or fewer than one try.
    """
    if tries < 1:
        raise ValueError(f"tries must be at least 1, got {tries}")
    outcomes: list[BuildOutcome] = []
    for seed in range(first_seed, first_seed + tries):
        outcomes.append(build_family(name, out, seed, progress, recipe))
        if outcomes[-1].passed:
            break
        progress(f"seed {seed} missed: {', '.join(outcomes[-1].failed)}", 0.0)
    return tuple(outcomes)


def _train_seed(
    name: str, seed: int, recipe: Recipe, tokenizer: PreTrainedTokenizerFast, progress: Progress
) -> LlamaForCausalLM:
    """The base on drills with some of everything, then mostly programs, then word problems up to the seed's target."""
    model = new_model(tokenizer, seed)
    reader = Reader(tokenizer, skills_of(name), f"{name}/{seed}/seed")
    exam = problem_exam(tokenizer, questions(name, "train", _STEER_QUESTIONS, seed))
    whole = recipe.base_steps + recipe.code_steps
    solves = 0.0

    def steered(before: int, fixed: Shares) -> Callable[[int], Shares]:
        def shares(step: int) -> Mapping[str, float]:
            nonlocal solves
            if step % _STEER_EVERY == 0:
                solves = exam.accuracy(model)
                progress("training the seed", _SEED_DONE * (before + step) / whole)
            return {**fixed, "problem": 1 - sum(fixed.values()) if solves < recipe.problem_target else 0.0}

        return shares

    train(
        model,
        reader,
        steps=recipe.base_steps,
        learning_rate=recipe.learning_rate,
        final=0.3,
        shares=steered(0, {"drill": 0.50, "chain": 0.20, "program": 0.20}),
    )
    train(
        model,
        reader,
        steps=recipe.code_steps,
        learning_rate=recipe.code_rate,
        shares=steered(recipe.base_steps, {"drill": 0.07, "chain": 0.08, "program": 0.80}),
    )

    def solves_enough(step: int) -> bool:
        return step % _STEER_EVERY == 0 and exam.accuracy(model) >= recipe.seed_target

    train(
        model,
        reader,
        steps=recipe.top_up_steps,
        learning_rate=_TOP_UP_RATE,
        final=1.0,
        shares=_constant({"chain": 0.10, "program": 0.70, "problem": 0.20}),
        enough=solves_enough,
    )
    return model


def _train_experts(
    name: str,
    seed: int,
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerFast,
    factory: LlamaForCausalLM,
    progress: Progress,
) -> dict[str, LlamaForCausalLM]:
    experts: dict[str, LlamaForCausalLM] = {}
    for index, (expert, own) in enumerate(recipe.experts.items()):
        progress(
            f"training expert {expert}",
            _SEED_DONE + (_EXPERTS_DONE - _SEED_DONE) * index / len(recipe.experts),
        )
        model = copy.deepcopy(factory)
        train(
            model,
            Reader(tokenizer, skills_of(name, expert), f"{name}/{seed}/{expert}"),
            steps=own.steps,
            learning_rate=own.learning_rate,
            final=own.final,
            scope=recipe.scope,
            muon=False,
            shares=_constant({"drill": own.drills / 2, "chain": own.drills / 2, "problem": 1 - own.drills}),
        )
        experts[expert] = rounded(model)
    return experts


def _constant(shares: Shares) -> Callable[[int], Shares]:
    return lambda step: shares


def _write(
    out: Path, tokenizer: PreTrainedTokenizerFast, members: Mapping[str, LlamaForCausalLM], card: FamilyCard
) -> None:
    """Write everything beside `out`, then move it into place: `out` is never seen half-written."""
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        for member, model in members.items():
            save_model(model, tokenizer, draft / member)
        (draft / CARD).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
        if out.exists():
            shutil.rmtree(out)
        draft.chmod(0o755)
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
