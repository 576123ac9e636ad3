"""`selfdev evaluate` and `selfdev grade`, through the real command line."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from flows.cli import app
from selfdev_core.errors import SelfdevError
from selfdev_core.scores import ask_campaign
from tests.flows.conftest import TINY, command, environment_of


@pytest.fixture
def gsm8k(tmp_path: Path) -> Path:
    folder = tmp_path / "gsm8k"
    folder.mkdir()
    for part in ("train", "test"):
        rows = [{"question": f"{part} {i} + 1?", "answer": f"{i} + 1\n#### {i + 1}"} for i in range(12)]
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def _answers(tmp_path: Path, rows: list[dict[str, Any]]) -> str:
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def _run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, list(arguments))


def _row(output: str, name: str) -> list[str]:
    """The cells of a line of the table."""
    (line,) = re.findall(rf"│ ({re.escape(name)} .*)│", output)
    return [cell.strip() for cell in line.split("│")]


def test_answers_with_their_references_are_graded_both_ways(tmp_path: Path) -> None:
    rows = [{"prediction": "#### 4", "reference": 4}, {"prediction": "So 5.", "reference": "5"}]
    rows += [{"prediction": "6", "reference": "#### 7"}, {"prediction": "none", "reference": "7"}]
    done = _run("grade", _answers(tmp_path, rows), "--grader", "number", "--extraction", "flexible")
    assert done.exit_code == 0, done.output
    assert _row(done.output, "flexible (the score)")[1:] == ["50.00%", "15.0% – 85.0%", "25.00%", "25.00%"]
    assert _row(done.output, "strict")[1:] == ["25.00%", "4.6% – 69.9%", "0.00%", "75.00%"]


@pytest.mark.parametrize("by", ["id", "question", "order"])
def test_answers_are_matched_with_the_benchmarks_rows(tmp_path: Path, gsm8k: Path, by: str) -> None:
    order = range(12) if by == "order" else range(11, 5, -1)
    keys = {"id": "test-{}", "question": "test {} + 1?"}
    rows = [{"answer": f"#### {i + (i != 7)}"} | ({by: keys[by].format(i)} if by in keys else {}) for i in order]
    done = _run("grade", _answers(tmp_path, rows), "-b", "gsm8k", "--path", str(gsm8k))
    assert done.exit_code == 0, done.output
    assert f"{len(rows)} answers, matched by {by}" in done.output
    assert _row(done.output, "flexible (the score)")[1] == f"{(len(rows) - 1) / len(rows):.2%}"


def test_a_field_within_a_field_and_a_users_own_grader(tmp_path: Path) -> None:
    grader = tmp_path / "ends.py"
    grader.write_text("def grade(answer, reference):\n    return answer.endswith(reference)\n")
    rows = [{"mine": {"text": "it is so"}, "reference": "so"}, {"mine": {"text": "not"}, "reference": "so"}]
    done = _run("grade", _answers(tmp_path, rows), "--grader", str(grader), "--field", "mine.text")
    assert done.exit_code == 0, done.output
    assert _row(done.output, "the score")[1] == "50.00%"


@pytest.mark.parametrize(
    ("rows", "arguments", "message"),
    [
        ([{"answer": "1"}], ["-b", "gsm8k"], r"holds 1 answers, gsm8k \(test\) 12 questions, .* in order; give each row its id"),
        ([{"id": "test-99", "answer": "1"}], ["-b", "gsm8k"], r"line 1: id 'test-99' is none of gsm8k's"),
        ([{"id": "test-1", "answer": "1"}] * 2, ["-b", "gsm8k"], r"line 2: id 'test-1' stands in line 1 already"),
        ([{"text": "1"}], ["-b", "gsm8k"], r"line 1: has no answer .* in 'prediction' or 'answer'; name the field with --field"),
        ([{"text": "1"}], ["-b", "gsm8k", "--field", "a.b"], r"line 1: has no answer .* in 'a\.b'"),
        ([{"answer": "1"}], ["--grader", "number"], r"line 1: has no reference \(text or a number\); give one, or --benchmark"),
        ([{"answer": "1", "reference": "x"}], ["--grader", "number"], r"line 1: reference 'x' is not a number"),
        ([{"answer": "1", "reference": "x"}], ["--grader", "exakt"], r"cannot read exakt .*give number, exact, choice, math"),
        ([{"answer": "1"}], [], r"give --benchmark NAME, or --grader"),
        ([], ["--grader", "exact"], r"answers\.jsonl: holds no answer"),
        ([{"answer": True, "reference": "x"}], ["--grader", "exact"], r"line 1: has no answer \(text or a number\)"),
    ],
)  # fmt: skip
def test_answers_that_cannot_be_graded_are_told_why(
    tmp_path: Path, gsm8k: Path, rows: list[dict[str, Any]], arguments: list[str], message: str
) -> None:
    if "gsm8k" in arguments:
        arguments = [*arguments, "--path", str(gsm8k)]
    done = _run("grade", _answers(tmp_path, rows), *arguments)
    assert isinstance(done.exception, SelfdevError) and re.search(message, str(done.exception)), done.exception


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --benchmark NAME or --campaign"),
        (["-b", "gsm8k", "--campaign", "x.yaml"], "give either --benchmark NAME or --campaign"),
        (["--campaign", "x.yaml", "--shots", "2"], "--shots: with --campaign its own settings hold"),
        (["-b", "gsm8k", "--path", "nowhere"], "nowhere: no such file or folder"),
        (["-b", "gsm8k", "--split", "search"], "--split search: a benchmark has test and train"),
        (["-b", "gsm8k", "--shots", "500"], "shots: .*less than or equal to 64"),
    ],
)
def test_what_cannot_be_evaluated_is_told_why(arguments: list[str], message: str) -> None:
    done = _run("evaluate", "model", *arguments)
    assert isinstance(done.exception, SelfdevError) and re.search(message, str(done.exception)), done.exception


def test_of_a_campaigns_models_only_the_seed_is_needed_to_ask_its_questions(tmp_path: Path, pico: Any) -> None:
    file = tmp_path / "far.yaml"
    file.write_text(
        f"name: far\nmodels: {{seed: {pico.seed}, experts: {{a: lab/on-the-hub}}}}\n"
        "questions: {family: arithmetic, search: 3, validation: 2, test: 2}\n"
    )
    assert len(ask_campaign(file, "search", 2).block.items) == 2


@pytest.mark.slow
def test_a_checkpoint_is_scored_once_and_then_found(tmp_path: Path, gsm8k: Path, pico: Any) -> None:
    def evaluate(*more: str) -> str:
        done = subprocess.run(
            command("evaluate", str(pico.seed), "-b", "gsm8k", "--path", str(gsm8k), "--max-new-tokens", "4", *more),
            env=environment_of(tmp_path / "home"), capture_output=True, text=True, timeout=600, check=True,
        )  # fmt: skip
        return done.stdout

    first = evaluate("--batch-size", "5")
    assert "gsm8k · test, 12 questions" in first and _row(first, "flexible (the score)")
    cards = sorted((tmp_path / "home" / "store").rglob("*scorecards*/**/*"))
    again = evaluate("--batch-size", "5")
    assert _row(again, "strict") == _row(first, "strict")
    assert sorted((tmp_path / "home" / "store").rglob("*scorecards*/**/*")) == cards
    kept = "".join(
        p.read_bytes().decode(errors="replace") for p in (tmp_path / "home" / "store").rglob("*") if p.is_file()
    )
    assert "test 3 + 1?" not in kept  # nor does it put test questions where a campaign's tasks could load them
    assert "train, 4 questions" in evaluate("--split", "train", "--limit", "4")


@pytest.mark.slow
def test_a_campaigns_questions_are_asked_as_it_asks_them(tmp_path: Path) -> None:
    from selfdev_core.miniature.families import family_folder

    (tmp_path / "tiny.yaml").write_text(TINY)
    seed = str(family_folder("arithmetic") / "seed")

    def evaluate(*more: str, status: int = 0) -> str:
        done = subprocess.run(
            command("evaluate", seed, "--campaign", str(tmp_path / "tiny.yaml"), *more),
            env=environment_of(tmp_path / "home"), capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert "tiny · search, 16 questions" in evaluate()
    assert "opened by its finalists only" in evaluate("--split", "test", status=2)
