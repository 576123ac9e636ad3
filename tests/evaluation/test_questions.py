"""Question files: read whole, or refused with field, file and line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from selfdev_core.asking import QuestionsConfig
from selfdev_core.errors import ConfigError
from selfdev_core.evaluation.questions import QuestionBlock, store_questions
from selfdev_core.evaluation.sources import load_questions
from selfdev_core.store.artifacts import ArtifactStore


def _config(path: Path, count: int = 2) -> QuestionsConfig:
    return QuestionsConfig(
        search_file=path, validation_file=path, test_file=path, search=count, validation=count, test=count
    )


def _block(tmp_path: Path, text: str, count: int = 2) -> QuestionBlock:
    path = tmp_path / "q.jsonl"
    path.write_text(text, encoding="utf-8", newline="")
    return load_questions(_config(path, count), "search")


GOOD = '{"question": "a?", "answer": "1"}\n{"question": "b?", "answer": 2}\n'


def test_questions_come_in_order_as_many_as_asked_for(tmp_path: Path) -> None:
    block = _block(tmp_path, "\n" + GOOD + "\n" + '{"question": "c?", "answer": "3", "level": 5}')
    assert [(item.question, item.answer) for item in block.items] == [("a?", "1"), ("b?", "2")]


@pytest.mark.parametrize("ending", ["\r\n", "\n\n"])
def test_line_endings_and_a_byte_order_mark_do_not_matter(tmp_path: Path, ending: str) -> None:
    assert _block(tmp_path, "\ufeff" + GOOD.replace("\n", ending)) == _block(tmp_path, GOOD)


def test_a_question_may_hold_unicode_line_separators(tmp_path: Path) -> None:
    rows = [{"question": f"one\u2028two\u0085three\x0c {n}", "answer": "1"} for n in range(2)]
    block = _block(tmp_path, "\n".join(json.dumps(row, ensure_ascii=False).replace("\\f", "\x7f") for row in rows))
    assert block.items[0].question.startswith("one\u2028two\u0085three")


@pytest.mark.parametrize(
    "line",
    ["not json", "[1, 2]", '"text"', "null", '{"question": "c?"}', '{"answer": "1"}', '{"question": "", "answer": "1"}',
     '{"question": "  ", "answer": "1"}', '{"question": 5, "answer": "1"}', '{"question": "c?", "answer": null}',
     '{"question": "c?", "answer": [1]}', '{"question": "c?", "answer": "five"}', '{"question": "c?", "answer": "nan"}',
     '{"question": "c?", "answer": true}', '{"question": "c?", "answer": ""}',
     '{"question": "c?", "answer": "1"', '{"question": "\\ud800", "answer": "1"}'],
)  # fmt: skip
def test_a_wrong_line_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError, match=r"questions\.search_file: .*q\.jsonl line 4: "):
        _block(tmp_path, GOOD + "\n" + line + "\n")


@pytest.mark.parametrize("text", ["", "\n\n  \n"])
def test_an_empty_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"questions\.search_file: .*q\.jsonl holds no question"):
        _block(tmp_path, text)


def test_too_few_questions_are_refused_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"questions\.search: asks for 5 questions, .* holds 2; lower questions\.search"
    ):
        _block(tmp_path, GOOD, 5)


def test_missing_and_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"questions\.test_file: cannot read .*nothing"):
        load_questions(_config(tmp_path / "nothing"), "test")
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path))):
        load_questions(_config(tmp_path), "validation")
    (tmp_path / "latin").write_bytes(b'{"question": "\xe9?", "answer": "1"}')
    with pytest.raises(ConfigError, match="latin"):
        load_questions(_config(tmp_path / "latin", 1), "search")


def test_the_split_is_part_of_the_identity_of_a_block(tmp_path: Path, write_questions: Callable[..., Path]) -> None:
    config = _config(write_questions(tmp_path / "q.jsonl"))
    store = ArtifactStore(tmp_path / "store")
    references = [store_questions(store, load_questions(config, split)) for split in ("search", "validation")]
    assert references[0].sha256 != references[1].sha256
    found = store.read("questions", references[0].sha256, QuestionBlock)
    assert found is not None and found.digest == references[0].sha256 and len(found.items) == references[0].count
