"""Answers that exist already: read from a JSONL file, put beside their references, graded."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_args

from selfdev_core.asking import Extraction, GraderName
from selfdev_core.errors import ConfigError
from selfdev_core.evaluation.benchmarks import Part, Row, find_benchmark
from selfdev_core.evaluation.graders import grader_of, refuse
from selfdev_core.evaluation.graders.pool import GraderPool, Pair
from selfdev_core.evaluation.graders.spec import GraderSpec, Marks

_FIELDS = ("prediction", "answer")


class _Line(NamedTuple):
    number: int
    row: dict[str, Any]
    answer: str


def grader_named(name: str, extraction: Extraction | None) -> GraderSpec:
    """A grader by its name, or by the path of a Python file. Raises: ConfigError as `grader_of`."""
    known: dict[str, GraderName] = {one: one for one in get_args(GraderName)}
    return grader_of(known.get(name, Path(name)), extraction)


def pairs_with_reference(file: Path, field: str | None, grader: GraderSpec) -> list[Pair]:
    """(answer, reference) of a file whose rows hold both. Raises: ConfigError naming the line that does not."""
    return [_own_reference(line, file, grader) for line in _lines(file, field)]


def pairs_with_benchmark(
    file: Path, field: str | None, grader: GraderSpec, name: str, part: Part, path: Path | None, revision: str | None
) -> tuple[list[Pair], str]:
    """(answer, reference) of each row, and by what the references were found: the rows' own, or the benchmark's rows with the
    same `id`, the same `question`, or in the same order.

    Raises: ConfigError when a row cannot be matched, or there are more or fewer than the benchmark's where only order matches.
    """
    lines = _lines(file, field)
    if all("reference" in line.row for line in lines):
        return [_own_reference(line, file, grader) for line in lines], "their own references"
    rows = find_benchmark(name).rows(part, path, revision)
    if not rows:
        raise ConfigError(f"questions.path: holds no {part} part of {name}")
    if all("id" in line.row for line in lines):
        return _by(lines, file, {row.id: row for row in rows}, "id", name), "id"
    if all("question" in line.row for line in lines):
        return _by(lines, file, {row.question: row for row in rows}, "question", name), "question"
    if len(lines) != len(rows):
        raise ConfigError(
            f"{file}: holds {len(lines)} answers, {name} ({part}) {len(rows)} questions, so that they cannot be matched in "
            "order; give each row its id, its question or its reference"
        )
    return [(line.answer, row.answer) for line, row in zip(lines, rows, strict=True)], "order"


def grade_pairs(grader: GraderSpec, pairs: list[Pair], told: Callable[[int], None] = lambda _: None) -> list[Marks]:
    """Marks of each pair. Raises: ConfigError from a user's own grader."""
    pool = GraderPool(os.cpu_count() or 1)
    try:
        return pool.grade(grader, pairs, told)
    finally:
        pool.close()


def _own_reference(line: _Line, file: Path, grader: GraderSpec) -> Pair:
    reference = line.row.get("reference")
    if isinstance(reference, bool) or not isinstance(reference, str | int | float):
        raise ConfigError(f"{file} line {line.number}: has no reference (text or a number); give one, or --benchmark")
    wrong = refuse(grader, str(reference))
    if wrong:
        raise ConfigError(f"{file} line {line.number}: reference {str(reference)[:40]!r} {wrong}")
    return line.answer, str(reference)


def _by(lines: list[_Line], file: Path, rows: dict[str, Row], field: str, name: str) -> list[Pair]:
    pairs, seen = [], dict[str, int]()
    for line in lines:
        value = str(line.row[field]).strip()
        if value not in rows:
            raise ConfigError(f"{file} line {line.number}: {field} {value[:60]!r} is none of {name}'s")
        if value in seen:
            raise ConfigError(f"{file} line {line.number}: {field} {value[:60]!r} stands in line {seen[value]} already")
        seen[value] = line.number
        pairs.append((line.answer, rows[value].answer))
    return pairs


def _lines(file: Path, field: str | None) -> list[_Line]:
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise ConfigError(f"{file} line {number}: is no JSON object")
        found.append(_Line(number, row, _answer(row, field, f"{file} line {number}")))
    if not found:
        raise ConfigError(f"{file}: holds no answer")
    return found


def _answer(row: dict[str, Any], field: str | None, where: str) -> str:
    value: Any = None
    if field is None:
        value = next((row[name] for name in _FIELDS if name in row), None)
    else:
        value = row
        for name in field.split("."):
            value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        named = " or ".join(repr(name) for name in ([field] if field else _FIELDS))
        raise ConfigError(f"{where}: has no answer (text or a number) in {named}; name the field with --field")
    return str(value)
