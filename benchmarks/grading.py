"""Whether the graders are right: published accuracies of four models' answers to GSM8K, and gold solutions against themselves.

SELFDEV_DATA=folder make bench-grading       a minute or two

The folder holds gsm8k/ (train.jsonl, test.jsonl, example_model_solutions.jsonl of Cobbe et al. 2021) and math/ (test.jsonl of
Hendrycks et al. 2021). Nothing is tuned to single answers; every gold solution that is not right is listed with its answer.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.measure import conditions, write_results
from selfdev_core.evaluation.benchmarks.gsm8k import GSM8K
from selfdev_core.evaluation.benchmarks.math import MATH
from selfdev_core.evaluation.graders import grader_of
from selfdev_core.evaluation.graders.maths import boxed
from selfdev_core.evaluation.graders.pool import GraderPool, Pair
from selfdev_core.evaluation.graders.spec import GraderSpec, Marks

PUBLISHED = {"6b_finetuning": 21.68, "6b_verification": 39.04, "175b_finetuning": 34.72, "175b_verification": 56.25}


def main() -> None:
    console = Console()
    data = Path(os.environ.get("SELFDEV_DATA", ""))
    if not os.environ.get("SELFDEV_DATA") or not (data / "gsm8k").is_dir():
        console.print("SELFDEV_DATA must name a folder with gsm8k/ and math/; see benchmarks/grading.py")
        sys.exit(2)
    before = conditions()
    number, mathematics = grader_of("number", "flexible"), grader_of("math", "flexible")
    before |= {"graders": {"gsm8k": number.version, "math": mathematics.version}}
    pool = GraderPool(os.cpu_count() or 1)
    try:
        models = [_published(pool, number, data, name, share) for name, share in PUBLISHED.items()]
        for row in models:
            console.print(
                f"{row['model']}: flexible {row['flexible']:.2f} %, published {row['published']} %, "
                f"strict {row['strict']:.2f} %, {row['other_than_publisher']} answers graded otherwise than the publisher did",
                highlight=False,
            )
        gold = [row.answer for part in ("train", "test") for row in GSM8K.rows(part, data / "gsm8k", None)]
        gsm8k = _gold(pool, number, gold)
        console.print(f"GSM8K gold: {gsm8k['right']} of {gsm8k['solutions']} right", highlight=False)
        solutions = [row.answer for row in MATH.rows("test", data / "math", None)]
        math = _gold(pool, mathematics, solutions) | {"control": _control(pool, mathematics, solutions)}
        console.print(f"MATH gold: {math['right']} of {math['solutions']} right, {math['seconds']} s", highlight=False)
    finally:
        pool.close()
    figures: dict[str, object] = {
        "gsm8k_published_max_error": round(max(abs(row["flexible"] - row["published"]) for row in models), 4),
        "gsm8k_gold_right": round(gsm8k["right"] / gsm8k["solutions"], 5),
        "math_gold_right": round(math["right"] / math["solutions"], 5),
    }
    console.print(
        write_results("grading", figures, before, {"published": models, "gsm8k_gold": gsm8k, "math_gold": math})
    )


def _published(pool: GraderPool, grader: GraderSpec, data: Path, model: str, published: float) -> dict[str, Any]:
    """One model's answers: right by each reading, %, and how many are graded otherwise than its publisher did."""
    references = {row.question: row.answer for row in GSM8K.rows("test", data / "gsm8k", None)}
    text = (data / "gsm8k" / "example_model_solutions.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    marks = pool.grade(grader, [(row[model]["solution"], references[row["question"].strip()]) for row in rows])
    right = [one["flexible"] == "right" for one in marks]
    return {
        "model": model,
        "answers": len(rows),
        "published": published,
        "flexible": round(100 * sum(right) / len(rows), 4),
        "strict": round(100 * _count(marks, "strict", "right") / len(rows), 4),
        "flexible_unparsable": _count(marks, "flexible", "unparsable"),
        "strict_unparsable": _count(marks, "strict", "unparsable"),
        "other_than_publisher": sum(a != row[model]["is_correct"] for a, row in zip(right, rows, strict=True)),
    }


def _gold(pool: GraderPool, grader: GraderSpec, solutions: list[str]) -> dict[str, Any]:
    """Solutions graded against themselves; the exceptions with what each reading says and the end of the solution."""
    pairs: list[Pair] = [(text, text) for text in solutions]
    began = time.monotonic()
    marks = pool.grade(grader, pairs)
    return {
        "solutions": len(solutions),
        "right": _count(marks, "flexible", "right"),
        "strict_right": _count(marks, "strict", "right"),
        "seconds": round(time.monotonic() - began, 1),
        "exceptions": [
            {"marks": one, "boxed": boxed(text), "end": text[-120:]}
            for text, one in zip(solutions, marks, strict=True)
            if set(one.values()) != {"right"}
        ],
    }


def _control(pool: GraderPool, grader: GraderSpec, solutions: list[str]) -> dict[str, Any]:
    """Each solution against the next one's reference: a grader that found everything right would show here."""
    pairs = list(zip(solutions, [*solutions[1:], solutions[0]], strict=True))
    marks = pool.grade(grader, pairs)
    right = [(boxed(a), boxed(b)) for (a, b), one in zip(pairs, marks, strict=True) if one["flexible"] == "right"]
    return {
        "right": len(right),
        "of_them_the_same_text": sum(a == b for a, b in right),
        "of_them_another_text": [list(pair) for pair in right if pair[0] != pair[1]],
    }


def _count(marks: list[Marks], way: str, outcome: str) -> int:
    return sum(one[way] == outcome for one in marks)


if __name__ == "__main__":
    main()
