"""Questions of a split: read from a file or drawn from the miniature, then kept by content in the store."""

from __future__ import annotations

import json
from pathlib import Path

from selfdev_core.config import QuestionsConfig
from selfdev_core.errors import ConfigError
from selfdev_core.evaluation.grading import reference_number
from selfdev_core.records import QuestionSet, Record, Split
from selfdev_core.store.artifacts import ArtifactStore


class QuestionItem(Record):
    question: str
    answer: str


class QuestionBlock(Record):
    """All questions of one split of a campaign."""

    split: Split
    items: tuple[QuestionItem, ...]


def load_questions(config: QuestionsConfig, split: Split) -> QuestionBlock:
    """The questions of one split, as many as the configuration asks for.

    Raises: ConfigError naming the file and line, an empty set, or a set with fewer questions than asked for.
    """
    count = int(getattr(config, split))
    if config.family:
        from selfdev_core.miniature.problems import questions

        items = [QuestionItem(question=q.question, answer=q.answer) for q in questions(config.family, split, count)]
    else:
        path: Path = getattr(config, f"{split}_file")
        items = _read_jsonl(path, f"questions.{split}_file")
        if len(items) < count:
            raise ConfigError(
                f"questions.{split}: asks for {count} questions, {path} holds {len(items)}; lower questions.{split}"
            )
    return QuestionBlock(split=split, items=tuple(items[:count]))


def store_questions(store: ArtifactStore, block: QuestionBlock) -> QuestionSet:
    """Put a split into the store and return the reference that evaluation keys hold."""
    reference = QuestionSet(split=block.split, sha256=block.digest, count=len(block.items))
    store.write("questions", reference.sha256, block)
    return reference


def _read_jsonl(path: Path, field: str) -> list[QuestionItem]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # not splitlines: a question may hold U+2028
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{field}: cannot read {path}: {error}") from error
    items: list[QuestionItem] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            question, answer = row["question"], row["answer"]
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{field}: {path} line {number}: needs a JSON object with question and answer") from None
        if not isinstance(question, str) or not question.strip() or not isinstance(answer, str | int | float):
            raise ConfigError(f"{field}: {path} line {number}: question must be text, answer text or a number")
        if reference_number(str(answer)) is None:
            raise ConfigError(
                f"{field}: {path} line {number}: answer {str(answer)[:40]!r} is not a number (or a solution that ends in "
                "`#### number`); only numbers can be graded"
            )
        items.append(QuestionItem(question=question, answer=str(answer)))
        try:
            f"{question}{answer}".encode()
        except UnicodeEncodeError:
            raise ConfigError(f"{field}: {path} line {number}: holds half of a surrogate pair; mend the text") from None
    if not items:
        raise ConfigError(f"{field}: {path} holds no question")
    return items
