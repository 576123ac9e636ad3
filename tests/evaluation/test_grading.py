"""Right, wrong, or not to be read."""

from __future__ import annotations

import pytest

from selfdev_core.evaluation.grading import final_answer, grade


@pytest.mark.parametrize(
    ("answer", "reference", "outcome"),
    [
        ("2 + 3 = 5\n#### 5", "5", "right"),
        ("#### 5", "2 + 3 = 5\n#### 5", "right"),
        ("#### 5.0", "5", "right"),
        ("#### 5", "5.00", "right"),
        ("#### 05", "5", "right"),
        ("####5", "5", "right"),
        ("####\n5", "5", "right"),
        ("#### 1,234", "1234", "right"),
        ("#### 1234", "1,234", "right"),
        ("#### 1,234,567.50", "1234567.5", "right"),
        ("#### -7", "-7", "right"),
        ("#### -0", "0", "right"),
        ("#### .5", "0.5", "right"),
        ("#### 5. Done.", "5", "right"),
        ("#### 5\nQ: What is 2 + 2?\nA: #### 4", "5", "right"),
        ("#### 42", "4.2e1", "right"),
        ("#### 10000000000000000000001", "10000000000000000000001", "right"),
        ("#### 10000000000000000000001", "10000000000000000000002", "wrong"),
        ("#### 0.1", "0.10000000000000001", "wrong"),
        ("#### 7", "-7", "wrong"),
        ("#### -7", "7", "wrong"),
        ("#### 6", "5", "wrong"),
        ("#### 5", "five", "wrong"),
        ("#### 5", "nan", "wrong"),
        ("#### 5", "", "wrong"),
        ("#### 4\n#### 5", "5", "wrong"),
        ("5", "5", "unparsable"),
        ("", "5", "unparsable"),
        ("The answer is 5.", "5", "unparsable"),
        ("####", "5", "unparsable"),
        ("#### five", "5", "unparsable"),
        ("### 5", "5", "unparsable"),
    ],
)
def test_grade(answer: str, reference: str, outcome: str) -> None:
    assert grade(answer, reference) == outcome


def test_the_final_answer_is_the_first_one() -> None:
    assert final_answer("#### 1,0\n#### 2") == "10"
    assert final_answer("nothing") is None
