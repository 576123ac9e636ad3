"""Benchmarks: one loader for every form of file, splits that never meet, and packages that add their own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selfdev_core.asking import QuestionsConfig
from selfdev_core.errors import ConfigError
from selfdev_core.evaluation.benchmarks import Row, find_benchmark
from selfdev_core.evaluation.benchmarks.cut import cut, in_order, worked_examples
from selfdev_core.evaluation.benchmarks.gsm8k import GSM8K
from selfdev_core.evaluation.benchmarks.math import MATH
from selfdev_core.evaluation.questions import QuestionBlock
from selfdev_core.evaluation.sources import QuestionSource


def _rows(part: str, count: int, groups: int = 1) -> list[Row]:
    return [Row(f"{part}-{i}", f"{part} question {i}?", f"so\n#### {i}", f"g{i % groups}") for i in range(count)]


def _write(folder: Path, part: str, count: int, ending: str = "jsonl") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"question": row.question, "answer": row.answer} for row in _rows(part, count)]
    path = folder / f"{part}.{ending}"
    if ending == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)
    elif ending == "json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def gsm8k(tmp_path: Path) -> Path:
    for part, count in (("train", 60), ("test", 40)):
        _write(tmp_path / "gsm8k", part, count)
    return tmp_path / "gsm8k"


def _config(path: Path, **more: Any) -> QuestionsConfig:
    return QuestionsConfig.model_validate(
        {"benchmark": "gsm8k", "path": path, "search": 10, "validation": 20, "test": 25} | more
    )


def _texts(config: QuestionsConfig, split: Any) -> list[str]:
    return [item.question for item in QuestionSource(config).block(split).items]


@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize("folder", [".", "main"])
def test_every_form_of_file_gives_the_same_rows(tmp_path: Path, ending: str, folder: str) -> None:
    _write(tmp_path / folder, "test", 3, ending)
    _write(tmp_path / "socratic", "test", 5)  # another configuration of the dataset
    assert GSM8K.rows("test", tmp_path, None) == [row._replace(group="") for row in _rows("test", 3)]
    assert GSM8K.rows("train", tmp_path, None) == []


def test_pieces_of_a_part_and_folders_of_subjects_are_read_in_order(tmp_path: Path) -> None:
    for subject in reversed(MATH.folders):
        for piece in range(2):
            row = {
                "problem": f"{subject} {piece}",
                "solution": rf"\boxed{{{piece}}}",
                "type": subject,
                "unique_id": f"{subject}{piece}",
            }
            path = tmp_path / subject / f"test-0000{piece}-of-00002.jsonl"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(row))
    rows = MATH.rows("test", tmp_path, None)
    assert [row.id for row in rows] == [f"{subject}{piece}" for subject in MATH.folders for piece in range(2)]
    assert rows[4] == Row("geometry0", "geometry 0", r"\boxed{0}", "geometry")
    assert MATH.rows("train", tmp_path, None) == []


def test_a_part_that_some_folders_of_subjects_lack_is_refused_by_their_names(tmp_path: Path) -> None:
    for subject in MATH.folders:
        folder = tmp_path / subject
        folder.mkdir()
        row = json.dumps({"problem": f"{subject}?", "solution": "1", "type": subject})
        (folder / "test.jsonl").write_text(row)
        if subject not in ("algebra", "precalculus"):
            (folder / "train.jsonl").write_text(row)
    assert len(MATH.rows("test", tmp_path, None)) == 7
    with pytest.raises(
        ConfigError, match=r"questions\.path: .*no train part in algebra, precalculus; download it there too"
    ):
        MATH.rows("train", tmp_path, None)
    given = {"benchmark": "math", "path": tmp_path, "search": 2, "validation": 2, "test": 2, "shots": 1}
    alone = QuestionSource(QuestionsConfig.model_validate(given | {"split_rule": "test-only"}))
    assert len(alone.block("test").items) == 2  # which needs no train part
    (tmp_path / "train.jsonl").write_text(json.dumps({"problem": "mine?", "solution": "1", "type": "algebra"}))
    assert [row.question for row in MATH.rows("train", tmp_path, None)] == ["mine?"]  # as the refusal advises
    assert len(MATH.rows("test", tmp_path, None)) == 7
    (tmp_path / "geometry" / "test.jsonl").unlink()
    (tmp_path / "geometry" / "train.jsonl").unlink()
    (tmp_path / "geometry").rmdir()
    with pytest.raises(ConfigError, match="no test part in geometry"):
        MATH.rows("test", tmp_path, None)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["test-00001-of-00002"], r"main: test-00000-of-00002\.jsonl is missing"),
        (["test-00000-of-00003", "test-00002-of-00003"], r"test-00001-of-00003\.jsonl is missing"),
        (["test-00000-of-00001", "test-00000-of-00002"], r"test-00000-of-00002\.jsonl belongs to another download"),
    ],
)
def test_pieces_that_are_not_the_whole_part_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        _write(tmp_path / "main", name, 2)
    with pytest.raises(ConfigError, match=rf"questions\.path: .*{message}; download the test part again"):
        GSM8K.rows("test", tmp_path, None)


def test_a_single_file_is_the_test_part(tmp_path: Path) -> None:
    path = _write(tmp_path, "mine", 4)
    assert len(GSM8K.rows("test", path, None)) == 4 and GSM8K.rows("train", path, None) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", r"test\.jsonl: cannot be read as jsonl: "),
        ("", r"test\.jsonl: "),
        ('{"question": "a?"}', r"test\.jsonl, row 1: has no text in the field 'answer'; its fields are question"),
        (
            '{"question": "a?", "answer": "1"}\n{"question": " ", "answer": "1"}',
            r"row 2: has no text in the field 'question'",
        ),
        ('{"question": "a?", "answer": 1}', r"row 1: has no text in the field 'answer'"),
        ("[1, 2]", r"test\.jsonl"),
    ],
)
def test_a_file_that_is_no_dataset_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "test.jsonl").write_text(text)
    with pytest.raises(ConfigError, match=message):
        GSM8K.rows("test", tmp_path, None)


def test_a_folder_without_the_benchmark_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"questions\.path: .* holds neither train nor test .*main"):
        GSM8K.rows("test", tmp_path, None)
    with pytest.raises(ConfigError, match=r"nowhere: no such file or folder"):
        GSM8K.rows("test", tmp_path / "nowhere", None)


@pytest.mark.parametrize("rule", ["honest", "paper", "test-only"])
def test_no_question_stands_in_two_splits_whatever_the_rule(rule: Any) -> None:
    train, test = _rows("train", 60), _rows("test", 200)
    made = cut(rule, train, [*test, *train[:5]], 30, 20, 5)  # some train questions stand in test too
    parts = [{row.question for row in part} for part in made]
    assert [len(part) for part in made[:3]] == [30, 20, 5]
    assert sum(len(part) for part in parts) == len(set().union(*parts))
    from_test = {row.question for row in (*test, *train[:5])}
    assert parts[3] <= from_test and (parts[0] <= from_test) == (rule != "honest")
    assert (parts[1] | parts[2] <= from_test) == (rule == "test-only")
    assert len(parts[3]) == {"honest": 205, "paper": 175, "test-only": 150}[rule]


def test_the_papers_split_is_a_hundred_or_six_hundred_and_the_rest() -> None:
    made = cut("paper", _rows("train", 400), _rows("test", 1319), 100, 256, 5)
    assert (len(made.search), len(made.test)) == (100, 1219)
    made = cut("paper", _rows("train", 400), _rows("test", 5000, groups=7), 600, 256, 5)
    assert (len(made.search), len(made.test)) == (600, 4400)
    per_subject = [sum(row.group == f"g{i}" for row in made.search) for i in range(7)]
    assert set(per_subject) == {85, 86}


def test_the_split_depends_on_the_questions_alone() -> None:
    train, test = _rows("train", 50), _rows("test", 50)
    made = cut("honest", train, test, 10, 10, 3)
    assert cut("honest", train[::-1], test[::-1], 10, 10, 3) == made
    assert cut("honest", train, test, 10, 10, 0).search == made.search == in_order(train)[:10]
    assert worked_examples(train, test, 3) == made.shots  # so `selfdev evaluate` shows what a campaign shows


@pytest.mark.parametrize(
    ("rule", "train", "message"),
    [
        ("honest", 0, r"split_rule: honest takes questions from the train part, and there is none.*test-only"),
        ("paper", 0, r"split_rule: paper takes"),
        ("honest", 20, r"ask for 35 questions of the train part, which holds 20; lower"),
        ("paper", 20, r"ask for 25 questions of the train part"),
    ],
)
def test_a_part_that_is_missing_or_too_small_is_refused(rule: Any, train: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        cut(rule, _rows("train", train), _rows("test", 50), 10, 20, 5)


def test_a_campaigns_splits_come_from_the_benchmark(gsm8k: Path) -> None:
    honest, paper = _config(gsm8k), _config(gsm8k, split_rule="paper")
    assert all(text.startswith("train") for text in _texts(honest, "search") + _texts(honest, "validation"))
    assert all(text.startswith("test") for text in _texts(honest, "test") + _texts(paper, "search"))
    assert not set(_texts(paper, "search")) & set(_texts(paper, "test"))
    assert [len(_texts(paper, split)) for split in ("search", "validation", "test")] == [10, 20, 25]
    with pytest.raises(ConfigError, match=r"questions\.test: asks for 31 questions, gsm8k \(paper\) leaves 30; lower"):
        _texts(_config(gsm8k, split_rule="paper", test=31), "test")


def test_worked_examples_come_first_and_are_asked_nowhere(gsm8k: Path, tmp_path: Path) -> None:
    source = QuestionSource(_config(gsm8k))
    asked = source.decoding(tmp_path)
    assert asked.template.count("Question: ") == 6 and asked.template.endswith("\n\nQuestion: {question}\nAnswer:")
    assert asked.stop == ("\nQuestion:",) and asked.max_new_tokens == 512
    assert (asked.grader.name, asked.grader.extraction) == ("number", "flexible")
    for split in ("search", "validation", "test"):
        assert not any(text in asked.template for text in _texts(_config(gsm8k), split))
    assert asked.answer("3 + 4 = 7\n#### 7\n\nQuestion: what is 2 + 2?\nAnswer: 4\n#### 4") == "3 + 4 = 7\n#### 7\n"


@pytest.mark.parametrize(
    "change",
    [{"shots": 4}, {"template": "Q: {question}\nA:"}, {"stop": ["."]}, {"extraction": "strict"}, {"grader": "exact"},
     {"max_new_tokens": 5}],
)  # fmt: skip
def test_whatever_changes_question_or_grade_changes_the_key(
    gsm8k: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    assert (
        QuestionSource(_config(gsm8k)).decoding(tmp_path).digest
        != QuestionSource(_config(gsm8k, **change)).decoding(tmp_path).digest
    )


def test_the_split_and_its_rule_change_the_questions_identity(gsm8k: Path) -> None:
    honest, paper = (
        QuestionSource(_config(gsm8k, validation=10)),
        QuestionSource(_config(gsm8k, validation=10, split_rule="paper")),
    )
    assert len({one.block(split).digest for one in (honest, paper) for split in ("search", "test")}) == 4
    items = honest.block("search").items
    assert QuestionBlock(split="search", items=items).digest != QuestionBlock(split="validation", items=items).digest


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "x"}, "path: only for a benchmark"),
        ({"shots": 2}, "shots: only for a benchmark"),
        ({"split_rule": "paper"}, "split_rule: only for a benchmark"),
        ({"benchmark": "gsm8k"}, "give either a benchmark, a family or"),
        ({"extraction": "strict", "grader": "exact"}, "extraction: only for the graders number and math"),
        ({"stop": [""]}, "stop"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QuestionsConfig.model_validate({"family": "arithmetic"} | settings)


def _package(root: Path, code: str) -> None:
    """A package with metadata, as an installer leaves it."""
    (root / "puzzles.py").write_text(code)
    info = root / "puzzles-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: puzzles\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[selfdev.benchmarks]\npuzzles = puzzles:Puzzles\n")


PUZZLES = """
from pathlib import Path
from selfdev_core.evaluation.benchmarks import Row
class Puzzles:
    template, stop, grader, shots, max_new_tokens = "Riddle: {question}\\nSolution:", (), "exact", 1, 8
    def rows(self, part, path, revision):
        return [Row(str(i), f"{part} {i}", str(i)) for i in range(30)]
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "puzzles", raising=False)
    yield lambda code: _package(tmp_path, code)
    sys.modules.pop("puzzles", None)


def test_a_package_adds_a_benchmark_by_its_entry_point(package: Callable[[str], None], tmp_path: Path) -> None:
    package(PUZZLES)
    config = QuestionsConfig(benchmark="puzzles", search=5, validation=5, test=30)
    source = QuestionSource(config)
    assert [len(source.block(split).items) for split in ("search", "validation", "test")] == [5, 5, 30]
    asked = source.decoding(tmp_path)
    assert asked.grader.name == "exact" and asked.template.startswith("Riddle: train ") and asked.max_new_tokens == 8


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("class Puzzles:", "class Puzzle:", r"entry point puzzles = puzzles:Puzzles cannot be loaded: AttributeError"),
        ("import Path", "import Path; raise OSError('no data')", "cannot be loaded: OSError: no data"),
        ("def rows", "def lines", "is no benchmark: it has no method rows"),
        ("{question}", "{q}", "its template must be text that holds"),
        ('"exact"', '"exakt"', "its grader must be one of number"),
        ("(), ", "None, ", "its stop must be a tuple"),
        ("1, 8", "1, 0", "its max_new_tokens must be a whole number of at least 1"),
    ],
)
def test_a_package_whose_benchmark_is_none_is_told_why(
    package: Callable[[str], None], old: str, new: str, message: str
) -> None:
    package(PUZZLES.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        find_benchmark("puzzles")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("raise OSError('no data')", "cannot give its test rows: OSError: no data"),
        ("return None", "cannot give its test rows: TypeError"),
        ("return [('1', 'q', 'a')]", "gives test rows that are no Row"),
    ],
)
def test_rows_that_a_package_cannot_give_are_told_as_its_fault(
    package: Callable[[str], None], rows: str, message: str
) -> None:
    package(PUZZLES.replace("return [Row(str(i)", f"{rows}; [Row(str(i)"))
    with pytest.raises(ConfigError, match=rf"^questions\.benchmark: entry point puzzles = puzzles:Puzzles {message}"):
        find_benchmark("puzzles").rows("test", None, None)


def test_an_unknown_benchmark_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"questions\.benchmark: 'gsm9k' is not known; there are gsm8k, math"):
        find_benchmark("gsm9k")
