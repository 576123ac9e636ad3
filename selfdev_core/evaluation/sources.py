"""Where questions come from: a miniature family, a user's files, or a benchmark; and what each is asked and graded with.

Only what prepares a campaign, opens its test split or evaluates by hand may import this: no stage, and nothing that a stage
imports, so that no task can load a question that is not in its job (held by tests/test_architecture.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from selfdev_core.asking import TWO_WAYS, Extraction, GraderName, QuestionsConfig
from selfdev_core.errors import ConfigError
from selfdev_core.evaluation.benchmarks import Benchmark, Part, Row, find_benchmark
from selfdev_core.evaluation.benchmarks.cut import Cut, cut, in_order, worked_examples
from selfdev_core.evaluation.decoding import Decoding
from selfdev_core.evaluation.graders import grader_of, refuse
from selfdev_core.evaluation.graders.spec import GraderSpec
from selfdev_core.evaluation.prompts import Shot, finished_template, uses_chat
from selfdev_core.evaluation.questions import QuestionBlock, QuestionItem
from selfdev_core.records import Split


class _Manner(NamedTuple):
    """How questions of a source are asked and graded when the configuration does not say."""

    template: str = "Q: {question}\nA:"
    stop: tuple[str, ...] = ()
    grader: GraderName | Path = "number"
    extraction: Extraction = "strict"
    max_new_tokens: int = 36


class QuestionSource:
    """The questions of a configuration. Whatever is wrong with them is found when it is made, or when a split is asked for.

    Raises: ConfigError naming the setting, file and line, and the mend.
    """

    def __init__(self, config: QuestionsConfig) -> None:
        self._config = config
        self._benchmark = find_benchmark(config.benchmark) if config.benchmark else None
        self._manner = manner_of(self._benchmark)
        self._read: dict[Part, list[Row]] = {}
        if config.extraction and self._grader not in TWO_WAYS:
            raise ConfigError(
                f"questions.extraction: only for the graders {' and '.join(TWO_WAYS)}; this grader reads in one way"
            )
        self.grader: GraderSpec = grader_of(self._grader, config.extraction or self._manner.extraction)

    def block(self, split: Split) -> QuestionBlock:
        """The questions of one split, as many as the configuration asks for."""
        count = int(getattr(self._config, split))
        if self._config.family:
            from selfdev_core.miniature.problems import questions

            drawn = questions(self._config.family, split, count)
            items = [QuestionItem(question=one.question, answer=one.answer) for one in drawn]
        elif self._benchmark is not None:
            rows: list[Row] = getattr(self._cut, split)
            where, name = f"{self._config.benchmark} ({self._config.split_rule})", f"questions.{split}"
            if len(rows) < count:
                raise ConfigError(f"{name}: asks for {count} questions, {where} leaves {len(rows)}; lower {name}")
            items = [QuestionItem(question=row.question, answer=row.answer) for row in rows[:count]]
            self._check(items, f"questions.benchmark: {where}")
        else:
            items = self._from_file(split, count)
        return QuestionBlock(split=split, items=tuple(items))

    def part(self, part: Part, limit: int | None) -> QuestionBlock:
        """A benchmark's whole part, or the first `limit` in the order of its splits, without the worked examples."""
        shown = {question for question, _ in self._shots()}
        rows = [row for row in in_order(self._rows(part)) if row.question not in shown][:limit]
        if not rows:
            raise ConfigError(f"questions.path: holds no {part} part that could be asked")
        items = [QuestionItem(question=row.question, answer=row.answer) for row in rows]
        self._check(items, f"questions.benchmark: {self._config.benchmark} ({part})")
        return QuestionBlock(split="test" if part == "test" else "search", items=tuple(items))

    def decoding(self, seed: Path) -> Decoding:
        """How questions are asked of the model in `seed` and of what is made from it, and how answers are graded."""
        config, manner = self._config, self._manner
        template = manner.template if config.template is None else config.template
        stop = config.stop
        if stop is None:
            stop = () if uses_chat(config.chat, seed) else manner.stop
        prompt = finished_template(template, self._shots(), config.chat, seed)
        return Decoding(
            template=prompt.text,
            stop=tuple(dict.fromkeys((*stop, *prompt.ends))),
            max_new_tokens=config.max_new_tokens or manner.max_new_tokens,
            batch_size=config.batch_size,
            grader=self.grader,
        )

    @property
    def _grader(self) -> GraderName | Path:
        return self._manner.grader if self._config.grader is None else self._config.grader

    def _rows(self, part: Part) -> list[Row]:
        assert self._benchmark is not None
        if part not in self._read:
            self._read[part] = self._benchmark.rows(part, self._config.path, self._config.revision)
        return self._read[part]

    @cached_property
    def _cut(self) -> Cut:
        config = self._config
        train = [] if config.split_rule == "test-only" else self._rows("train")
        test = self._rows("test")
        return cut(config.split_rule, train, test, config.search, config.validation, self._shot_count)

    @property
    def _shot_count(self) -> int:
        if self._benchmark is None:
            return 0
        return self._benchmark.shots if self._config.shots is None else self._config.shots

    def _shots(self) -> list[Shot]:
        if not self._shot_count:
            return []
        if self._config.split_rule == "test-only":
            rows = self._cut.shots
        else:
            rows = worked_examples(self._rows("train"), self._rows("test"), self._shot_count)
        shots = [(row.question, row.answer) for row in rows]
        if any("{question}" in text for shot in shots for text in shot):
            raise ConfigError(
                "questions.shots: a worked example holds {question}, the mark of the template; use other shots"
            )
        return shots

    def _from_file(self, split: Split, count: int) -> list[QuestionItem]:
        path: Path = getattr(self._config, f"{split}_file")
        field = f"questions.{split}_file"
        items = []
        for number, item in read_questions(path, field):
            self._check([item], f"{field}: {path} line {number}")
            items.append(item)
        if len(items) < count:
            raise ConfigError(
                f"questions.{split}: asks for {count} questions, {path} holds {len(items)}; lower questions.{split}"
            )
        return items[:count]

    def _check(self, items: Iterable[QuestionItem], where: str) -> None:
        for item in items:
            wrong = refuse(self.grader, item.answer)
            if wrong:
                raise ConfigError(f"{where}: answer {item.answer[:40]!r} {wrong}")


def load_questions(config: QuestionsConfig, split: Split) -> QuestionBlock:
    """The questions of one split. Raises: ConfigError naming what is wrong with them."""
    return QuestionSource(config).block(split)


def read_questions(path: Path, field: str) -> list[tuple[int, QuestionItem]]:
    """(line, question) of a JSONL file with `question` and `answer`. Raises: ConfigError naming field, file and line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # not splitlines: a question may hold U+2028
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{field}: cannot read {path}: {error}") from error
    items = [
        (number, _item(line, f"{field}: {path} line {number}")) for number, line in enumerate(lines, 1) if line.strip()
    ]
    if not items:
        raise ConfigError(f"{field}: {path} holds no question")
    return items


def _item(line: str, where: str) -> QuestionItem:
    try:
        row = json.loads(line)
        question, answer = row["question"], row["answer"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConfigError(f"{where}: needs a JSON object with question and answer") from None
    if (
        not isinstance(question, str)
        or not question.strip()
        or not isinstance(answer, str | int | float)
        or isinstance(answer, bool)
    ):
        raise ConfigError(f"{where}: question must be text, answer text or a number")
    try:
        f"{question}{answer}".encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{where}: holds half of a surrogate pair; mend the text") from None
    return QuestionItem(question=question, answer=str(answer))


def manner_of(benchmark: Benchmark | None) -> _Manner:
    """How questions of a benchmark, or of other sources, are asked and graded when the configuration does not say."""
    if benchmark is None:
        return _Manner()
    return _Manner(benchmark.template, benchmark.stop, benchmark.grader, "flexible", benchmark.max_new_tokens)
