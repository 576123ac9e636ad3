"""Scores a checkpoint by itself, outside any campaign: on a benchmark's part, or on a campaign's questions as it asks them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from selfdev_core.asking import QuestionsConfig
from selfdev_core.config import load_campaign
from selfdev_core.engines.choose import dtype_of, key_of
from selfdev_core.engines.config import EngineConfig
from selfdev_core.errors import ConfigError
from selfdev_core.evaluation.decoding import Decoding
from selfdev_core.evaluation.graders.pool import try_grader
from selfdev_core.evaluation.questions import QuestionBlock, set_of
from selfdev_core.evaluation.sources import QuestionSource
from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.merging.stamps import stamps_of
from selfdev_core.prepare import checked_engine, seed_source
from selfdev_core.records import ModelRef, OutcomeKind, Tally
from selfdev_core.resources import ResourcesConfig
from selfdev_core.stages.evaluate import model_scorecard
from selfdev_core.workspace import Workspace, WorkspaceSettings, close_workspaces, workspace_of


class Asked(NamedTuple):
    """What a checkpoint is asked, how, and of which engine. `name` says what it is, for the reader."""

    name: str
    block: QuestionBlock
    decoding: Decoding
    engine: EngineConfig
    dtype: str


class Scores(NamedTuple):
    """Outcomes in the order of the questions; counts by way of reading (one, named "", where there is only one)."""

    outcomes: tuple[OutcomeKind, ...]
    tallies: dict[str, Tally]
    extraction: str
    tokens: int


def ask_benchmark(config: QuestionsConfig, part: str, limit: int | None, model: Path) -> Asked:
    """The questions of a benchmark's part, asked through the model's own chat template if it has one.

    Raises: ConfigError as QuestionSource, or when there is no such part.
    """
    if part not in ("test", "train"):
        raise ConfigError(f"--split {part}: a benchmark has test and train")
    source = QuestionSource(config)
    block = source.part("test" if part == "test" else "train", limit)
    return _by(EngineConfig(), ResourcesConfig(), f"{config.benchmark} · {part}", block, source.decoding(model))


def ask_campaign(file: Path, split: str, limit: int | None) -> Asked:
    """A split of a campaign's questions, asked as the campaign asks them: through its seed's chat template, of its engine.

    Raises: ConfigError as `load_campaign` and QuestionSource, when the split is sealed or unknown, or the engine is not here.
    """
    config = load_campaign(file)
    if split == "test":
        raise ConfigError(
            "--split test: a campaign's test questions are opened by its finalists only; use search or validation"
        )
    if split not in ("search", "validation"):
        raise ConfigError(f"--split {split}: a campaign has search and validation")
    source = QuestionSource(config.questions)
    block = source.block("search" if split == "search" else "validation")
    decoding = source.decoding(seed_source(config).folder)
    if decoding.grader.name == "own":
        try_grader(decoding.grader, block.items[0].answer)
    block = block.model_copy(update={"items": block.items[:limit]})
    engine = checked_engine(config.engine, config.resources)
    return _by(engine, config.resources, f"{config.name} · {split}", block, decoding)


def _by(engine: EngineConfig, resources: ResourcesConfig, name: str, block: QuestionBlock, decoding: Decoding) -> Asked:
    """Asked of this engine, which stands in the keys."""
    dtype = dtype_of(engine, resources)
    return Asked(name, block, decoding.model_copy(update={"engine": key_of(engine, dtype)}), engine, dtype)


def score(
    model: Path, asked: Asked, workers: int, store: str, told: Callable[[int, float], None] = lambda *_: None
) -> Scores:
    """Answers of a checkpoint, graded. Each batch of questions is a record of the store, so asking again costs nothing.

    `told` hears, after each batch, of the number of questions done and the share of right answers so far.
    Raises: CheckpointError when the folder is no checkpoint; EngineError when it cannot be loaded; ConfigError from
    a user's own grader.
    """
    opened = Checkpoint(model.resolve())
    stamps = stamps_of(opened)
    reference = ModelRef(name="model", sha256=opened.sha256())
    settings = WorkspaceSettings(
        store=store,
        models={reference.sha256: str(opened.folder)},
        stamps={reference.sha256: stamps},
        workers=workers,
        engine=asked.engine,
        dtype=asked.dtype,
    )
    size, block = asked.decoding.batch_size, asked.block
    parts = [
        QuestionBlock(split=block.split, items=block.items[at : at + size]) for at in range(0, len(block.items), size)
    ]
    workspace: Workspace = workspace_of(settings)
    cards = []
    try:
        with ThreadPoolExecutor(workers) as threads:
            done = [
                threads.submit(model_scorecard, reference, set_of(part), asked.decoding, part, workspace)
                for part in parts
            ]
            try:
                for one in done:
                    cards.append(one.result())
                    outcomes = [outcome for card in cards for outcome in card.outcomes]
                    told(len(outcomes), outcomes.count("right") / len(outcomes))
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                workspace.stop_models()
                raise
    finally:
        close_workspaces(settings)
    outcomes = [outcome for card in cards for outcome in card.outcomes]
    tallies = [card.tallies or {"": tally(card.outcomes)} for card in cards]
    return Scores(
        outcomes=tuple(outcomes),
        tallies={way: _sum([one[way] for one in tallies]) for way in tallies[0]},
        extraction=asked.decoding.grader.extraction,
        tokens=sum(card.tokens for card in cards),
    )


def tally(outcomes: tuple[OutcomeKind, ...]) -> Tally:
    """Counts of outcomes."""
    return Tally(**{kind: outcomes.count(kind) for kind in ("right", "wrong", "unparsable")})


def _sum(tallies: list[Tally]) -> Tally:
    return Tally(**{kind: sum(getattr(one, kind) for one in tallies) for kind in Tally.model_fields})
