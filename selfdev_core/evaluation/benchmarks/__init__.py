"""Benchmarks: published sets of questions with their splits, the prompt they are asked with and the grader they are known by.

Two ship with the package. Another package adds one with an entry point of the group `selfdev.benchmarks` that names a Benchmark
(or a function that makes one); the entry point's name is what `questions.benchmark` says.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, get_args

from selfdev_core.asking import GraderName
from selfdev_core.errors import ConfigError

GROUP = "selfdev.benchmarks"
Part = Literal["train", "test"]


class Row(NamedTuple):
    """One question of a benchmark. `answer`: the reference, a whole solution where there is one; `group`: a subject, if any."""

    id: str
    question: str
    answer: str
    group: str = ""


class Benchmark(Protocol):
    """What a benchmark is.

    `template` holds `{question}`; `stop`: where an answer ends when no chat template is used; `grader`: one of ours, or a Python
    file with `grade(answer, reference)`; `shots`: worked examples by default; `max_new_tokens`: what its longest answers need.
    """

    @property
    def template(self) -> str: ...
    @property
    def stop(self) -> tuple[str, ...]: ...
    @property
    def grader(self) -> GraderName | Path: ...
    @property
    def shots(self) -> int: ...
    @property
    def max_new_tokens(self) -> int: ...

    def rows(self, part: Part, path: Path | None, revision: str | None) -> list[Row]:
        """All rows of a part in their published order; empty when the files hold no such part.

        `path`: where its files lie on this machine, None for the Hub; `revision`: of the Hub's dataset, None for the default.
        Raises: ConfigError naming the file or dataset that cannot be read, and what to do about it.
        """


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of this name. Raises: ConfigError naming those that there are, or what is wrong with an entry point."""
    shipped = _shipped()
    if name in shipped:
        return shipped[name]
    others = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in others:
        raise ConfigError(
            f"questions.benchmark: {name!r} is not known; there are {', '.join(sorted({*shipped, *others}))} (a package adds one "
            f"with an entry point of the group {GROUP})"
        )
    return _loaded(others[name])


def _shipped() -> dict[str, Benchmark]:
    from selfdev_core.evaluation.benchmarks.gsm8k import GSM8K
    from selfdev_core.evaluation.benchmarks.math import MATH

    return {"gsm8k": GSM8K, "math": MATH}


def _loaded(entry: EntryPoint) -> Benchmark:
    try:
        found = entry.load()
        made = found() if callable(found) else found
    except Exception as error:
        raise ConfigError(
            f"questions.benchmark: entry point {entry.name} = {entry.value} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    wrong = _wrong(made)
    if wrong:
        raise ConfigError(f"questions.benchmark: entry point {entry.name} = {entry.value} is no benchmark: {wrong}")
    return _Added(made, f"entry point {entry.name} = {entry.value}")


class _Added:
    """A benchmark of another package. What goes wrong in it is told as a fault of that package."""

    def __init__(self, made: Benchmark, where: str) -> None:
        self.template, self.stop, self.grader = made.template, made.stop, made.grader
        self.shots, self.max_new_tokens = made.shots, made.max_new_tokens
        self._made, self._where = made, where

    def rows(self, part: Part, path: Path | None, revision: str | None) -> list[Row]:
        """As Benchmark.rows."""
        try:
            rows = list(self._made.rows(part, path, revision))
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(
                f"questions.benchmark: {self._where} cannot give its {part} rows: {type(error).__name__}: {error}"
            ) from error
        if not all(isinstance(row, Row) for row in rows):
            raise ConfigError(
                f"questions.benchmark: {self._where} gives {part} rows that are no Row(id, question, answer, group)"
            )
        return rows


def _wrong(made: object) -> str:
    """What keeps an object from being a benchmark; empty when nothing does."""
    if not callable(getattr(made, "rows", None)):
        return "it has no method rows(part, path, revision)"
    template, stop, grader = (getattr(made, name, None) for name in ("template", "stop", "grader"))
    if not isinstance(template, str) or "{question}" not in template:
        return "its template must be text that holds {question}"
    if not isinstance(stop, tuple) or not all(isinstance(text, str) and text for text in stop):
        return "its stop must be a tuple of texts"
    if not isinstance(grader, Path) and grader not in get_args(GraderName):
        return f"its grader must be one of {', '.join(get_args(GraderName))}, or a Path"
    for name, least in (("shots", 0), ("max_new_tokens", 1)):
        value = getattr(made, name, None)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            return f"its {name} must be a whole number of at least {least}"
    return ""
