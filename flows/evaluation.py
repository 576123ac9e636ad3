"""What `selfdev evaluate` and `selfdev grade` do in the terminal: a progress bar, then a table of scores."""

from __future__ import annotations

import time
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from selfdev_core.answers import grade_pairs, grader_named, pairs_with_benchmark, pairs_with_reference
from selfdev_core.asking import Extraction, QuestionsConfig
from selfdev_core.config import explain
from selfdev_core.errors import ConfigError
from selfdev_core.evaluation.benchmarks import Part, find_benchmark
from selfdev_core.evaluation.graders import grader_of
from selfdev_core.evaluation.scoring import tallies_of
from selfdev_core.home import selfdev_home
from selfdev_core.merging.hub import resolve
from selfdev_core.records import Tally
from selfdev_core.scores import Asked, ask_benchmark, ask_campaign, score, tally
from selfdev_core.statistics.intervals import wilson
from selfdev_core.store.location import is_url


def evaluate_here(
    model: str,
    benchmark: str | None,
    campaign: Path | None,
    split: str | None,
    limit: int | None,
    how: dict[str, object],
    workers: int,
    store: str | None,
    console: Console,
) -> None:
    """Score a checkpoint and print it. Raises: ConfigError, CheckpointError or EngineError for the reader."""
    folder = resolve(model, "MODEL").folder
    asked = _asked(folder, benchmark, campaign, split, limit, how)
    place = store if store and is_url(store) else str(Path(store or selfdev_home() / "store").expanduser().resolve())
    began = time.monotonic()
    with _bar(console) as bar:
        task = bar.add_task(asked.name, total=len(asked.block.items), score="")

        def told(done: int, share: float) -> None:
            bar.update(task, completed=done, score=f"{share:.1%}")

        found = score(folder, asked, workers, place, told)
    title = f"{folder.name}: {asked.name}, {len(found.outcomes):,} questions"
    console.print(_table(title, found.tallies, found.extraction))
    seconds = time.monotonic() - began
    console.print(
        f"{found.tokens:,} answer tokens; {seconds:.1f} s now. Kept in {place}", highlight=False, soft_wrap=True
    )


def grade_here(
    answers: Path,
    benchmark: str | None,
    grader: str | None,
    path: Path | None,
    revision: str | None,
    split: Part,
    field: str | None,
    extraction: Extraction | None,
    console: Console,
) -> None:
    """Grade answers and print the score. Raises: ConfigError for the reader."""
    if benchmark is None and grader is None:
        raise ConfigError("give --benchmark NAME, or --grader with a reference in every row")
    if benchmark is None:
        assert grader is not None
        spec = grader_named(grader, extraction)
        pairs, by = pairs_with_reference(answers, field, spec), "their own references"
    else:
        known = find_benchmark(benchmark)
        spec = grader_named(grader, extraction) if grader else grader_of(known.grader, extraction or "flexible")
        pairs, by = pairs_with_benchmark(answers, field, spec, benchmark, split, path, revision)
    with _bar(console) as bar:
        task = bar.add_task("grading", total=len(pairs), score="")
        marks = grade_pairs(spec, pairs, lambda done: bar.advance(task, done))
    tallies = tallies_of(marks) or {"": tally(tuple(one[""] for one in marks))}
    console.print(_table(f"{answers.name}: {len(pairs):,} answers, matched by {by}", tallies, spec.extraction))


def _asked(
    model: Path,
    benchmark: str | None,
    campaign: Path | None,
    split: str | None,
    limit: int | None,
    how: dict[str, object],
) -> Asked:
    given = {name: value for name, value in how.items() if value is not None}
    if (benchmark is None) == (campaign is None):
        raise ConfigError("give either --benchmark NAME or --campaign CAMPAIGN.yaml")
    if campaign is not None:
        if given:
            option = next(iter(given)).replace("_", "-")
            raise ConfigError(f"--{option}: with --campaign its own settings hold; change them in {campaign}")
        return ask_campaign(campaign, split or "search", limit)
    try:
        config = QuestionsConfig.model_validate({"benchmark": benchmark, "batch_size": 32} | given)
    except ValidationError as error:
        raise ConfigError(f"{len(error.errors())} setting(s) refused\n{explain(error)}") from None
    return ask_benchmark(config, split or "test", limit, model)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[score]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


def _table(title: str, tallies: dict[str, Tally], extraction: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("answers read", "right", "95 % interval", "wrong", "unparsable"):
        table.add_column(column, justify="left" if column == "answers read" else "right")
    for way, count in sorted(tallies.items(), key=lambda item: item[0] != extraction):
        total = count.right + count.wrong + count.unparsable
        found = wilson(count.right, total)
        name = f"{way} (the score)" if way and way == extraction else way or "the score"
        bounds = f"{found.low:.1%} – {found.high:.1%}"
        table.add_row(
            name, f"{found.value:.2%}", bounds, f"{count.wrong / total:.2%}", f"{count.unparsable / total:.2%}"
        )
    return table
