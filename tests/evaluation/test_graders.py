"""Right, wrong, or not to be read: what each grader says of an answer."""

from __future__ import annotations

from decimal import Decimal

import pytest

from selfdev_core.evaluation.graders import choice, exact, maths, number
from selfdev_core.evaluation.graders.own import OwnGraderError, load, outcome

STRICT = [
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
    ("#### 100000", "#### 1e5", "right"),
    ("#### 5", "#### Steps\n#### 5 \nDone.", "right"),
    ("#### 3", "#### 3/4", "wrong"),
    ("#### 50", "#### 50%", "wrong"),
    ("#### 12", "1,2", "wrong"),
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
]
FLEXIBLE = [
    ("She has 4 and gives 1.\nA: 3", "3", "right"),
    ("#### 3", "#### 3", "right"),
    ("That makes $1,234.50.", "1234.5", "right"),
    ("It costs 18.00 dollars.", "18", "right"),
    ("It is -$5", "-5", "right"),
    ("It is $-5", "-5", "right"),
    ("It is −5", "-5", "right"),
    ("10-3=7, so 10-3", "3", "right"),
    ("one of 3,4", "4", "right"),
    ("12,34", "34", "right"),
    ("1,234,567", "1234567", "right"),
    ("a share of .5", "0.5", "right"),
    ("5 apples...", "5", "right"),
    ("#### 5\nThat took 2 days", "5", "wrong"),
    ("6", "5", "wrong"),
    ("6", "six", "wrong"),
    ("", "5", "unparsable"),
    ("None of them, - $ , .", "5", "unparsable"),
]


@pytest.mark.parametrize(("answer", "reference", "outcome"), STRICT)
def test_a_number_read_strictly(answer: str, reference: str, outcome: str) -> None:
    assert number.grade(answer, reference)["strict"] == outcome


@pytest.mark.parametrize(("answer", "reference", "outcome"), FLEXIBLE)
def test_a_number_read_flexibly(answer: str, reference: str, outcome: str) -> None:
    assert number.grade(answer, reference)["flexible"] == outcome


def test_what_is_right_strictly_is_right_flexibly_unless_another_number_follows() -> None:
    for answer, reference, found in STRICT:
        if found == "right" and not answer.endswith(("Done.", "#### 4")):
            assert number.grade(answer, reference)["flexible"] == "right", answer


def test_the_final_answer_is_the_first_one() -> None:
    assert number.final_answer("#### 1,0\n#### 2") == "10"
    assert number.final_answer("nothing") is None


def test_a_very_long_answer_is_read_in_one_pass() -> None:
    for piece in ("1", "1,", "1,234", "-", "$", ".", "#### ", "answer ", "(A", "*", "\\boxed{"):
        for grader in (number, choice, exact):
            grader.grade(piece * 100_000, "5")  # quadratic would take hours
    choice.grade(f"answer{' ' * 100_000}x", "5")


@pytest.mark.parametrize(
    ("answer", "reference", "outcome"),
    [
        ("Paris", "Paris", "right"),
        ("  The  Seine\n", "The Seine", "right"),
        ("It is on the river.\n#### Paris", "Paris", "right"),
        ("paris", "Paris", "wrong"),
        ("Paris, France", "Paris", "wrong"),
        ("", "Paris", "unparsable"),
        ("#### ", "Paris", "unparsable"),
    ],
)
def test_the_same_text(answer: str, reference: str, outcome: str) -> None:
    assert exact.grade(answer, reference) == {"": outcome}


@pytest.mark.parametrize(
    ("answer", "reference", "outcome"),
    [
        ("B", "B", "right"),
        (" (B)", "B", "right"),
        ("B. Because it is red.", "(B)", "right"),
        ("B) red", "B", "right"),
        ("The answer is B.", "B", "right"),
        ("The answer is (B).", "B", "right"),
        ("Answer: **B**", "B", "right"),
        ("First A seems right. So the answer is C.", "C", "right"),
        ("It is (A) or (B); I take (B)", "B", "right"),
        ("A dog runs.\n#### D", "D", "right"),
        ("Answer: I think it is (B)", "B", "right"),
        ("The answer is A bit tricky, for it rains; so (C)", "C", "right"),
        ("The answer is A because it is red.", "A", "right"),
        ("The answer is B because it is red.", "B", "right"),
        ("The answer is A", "A", "right"),
        ("Answer: A\nI hope so", "A", "right"),
        ("the answer is option B", "B", "right"),
        ("The correct answer is: **Option (A)**", "A", "right"),
        (r"So it is \boxed{B}", "B", "right"),
        (r"The answer is $\boxed{\text{I}}$.", "I", "right"),
        ("The answer is I do not know", "I", "unparsable"),
        ("The answer is B. Answer choice C is wrong.", "B", "right"),
        ("The answer is B. Answer (C) is wrong.", "B", "right"),
        ("Answer: B\nAnswer C would need two moles.", "B", "right"),
        ("Answer C, the last one, is wrong", "C", "unparsable"),
        ("Answer B", "B", "right"),
        ("So, answer (B).\nIt is red.", "B", "right"),
        ("Answer B because it is red.", "B", "right"),
        ("#### b", "B", "right"),
        ("(b)", "B", "right"),
        ("(b) red", "B", "right"),
        ("b) red", "B", "right"),
        ("Answer: b", "B", "right"),
        ("Answer: b\nFor (A) is blue.", "B", "right"),
        ("The answer is **b**.", "B", "right"),
        ("The answer is (b), for (a) is blue.", "B", "right"),
        (r"So it is \boxed{\text{b}}", "B", "right"),
        ("It is not (a) but (b)", "B", "right"),
        ("By (a) and (b) it is (C)", "C", "right"),
        ("(a) and (b) are wrong, so (C)", "C", "right"),
        ("a) red is wrong\nb) blue is wrong\nSo it must be (C)", "C", "right"),
        ("(A) and (B) are wrong, so (C)", "C", "right"),
        ("(a), (b) are wrong, so (c)", "C", "right"),
        ("A) is too small.\nB) is too large.\nThat leaves (C).", "C", "right"),
        ("B) red\nA) would need two.", "B", "right"),
        ("c) since P(A)P(B) = P(A and B)", "C", "right"),
        ("(b) vitamin (C)", "B", "right"),
        ("The answer is a bit tricky", "A", "unparsable"),
        ("Take f(x) and the mole(s).", "X", "unparsable"),
        ("b is red", "B", "unparsable"),
        ("C", "B", "wrong"),
        ("A dog runs.", "A", "unparsable"),
        ("I'd say so", "I", "unparsable"),
        ("", "A", "unparsable"),
    ],
)
def test_a_choice(answer: str, reference: str, outcome: str) -> None:
    assert choice.grade(answer, reference) == {"": outcome}


def test_a_reference_that_no_answer_can_meet_is_refused_by_its_grader_only() -> None:
    for reference, refusing in {
        "42": {choice},
        "five": {number, choice},
        "B": {number},
        " ": {number, choice, exact, maths},
    }.items():
        for grader in (number, choice, exact, maths):
            assert bool(grader.refuse(reference)) == (grader in refusing), (reference, grader)


@pytest.mark.parametrize("reference", ["3/4", "50%", "5 apples", "5.5.5", "1,2", "12,34", "1234,567", "1,234,56", "1,"])
def test_a_reference_is_a_number_as_a_whole_or_refused(reference: str) -> None:
    for text in (reference, f"so\n#### {reference}", f"so\n#### {reference}\nDone."):
        assert "is not a number" in number.refuse(text), text


@pytest.mark.parametrize(
    ("reference", "value"),
    [("1e5", "100000"), ("1,234,567.50", "1234567.5"), ("-1,234", "-1234"), (".5", "0.5"), ("5.", "5"), ("-7", "-7")],
)
def test_a_reference_that_can_be_read_is_read_to_its_end(reference: str, value: str) -> None:
    for text in (reference, f"so\n#### {reference}", f"so\n####{reference} \r\nDone."):
        assert number.refuse(text) == "" and number.reference_number(text) == Decimal(value), text


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        (r"so \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{1} and then \boxed{2}", "2"),
        (r"\boxed{\left\{1,2\right\}}", r"\left\{1,2\right\}"),
        (r"\fbox{7}", "7"),
        (r"\boxed 5", "5"),
        (r"\boxed{}", ""),
        (r"\boxed{3} and \boxed{never closed", "3"),
        ("no box", None),
    ],
)
def test_what_stands_in_the_box(text: str, inside: str | None) -> None:
    assert maths.boxed(text) == inside


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, "right"), (False, "wrong"), (1, "right"), (0.0, "wrong"), (None, "unparsable"), ("right", "right"),
     ("unparsable", "unparsable")],
)  # fmt: skip
def test_what_a_users_grader_may_return(value: object, expected: str) -> None:
    assert outcome(value) == expected


def test_numpy_and_torch_scalars_are_outcomes_too() -> None:
    import numpy as np

    assert outcome(np.bool_(True)) == "right" and outcome(np.float32(0.0)) == "wrong"
    with pytest.raises(OwnGraderError, match="an array, not one outcome"):
        outcome(np.array([True, False]))


@pytest.mark.parametrize("value", [0.5, float("nan"), 2, "yes", "", [], {}, ("right",), object(), b"right"])
def test_anything_else_is_refused_with_what_it_was(value: object) -> None:
    with pytest.raises(OwnGraderError, match=r"returned .*return True, False, None"):
        outcome(value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1", "defines no function grade"),
        ("grade = 5", "defines no function grade"),
        ("def grade(answer): return True", r"must take \(answer, reference\)"),
        ("async def grade(a, b): return True", "async"),
        ("import nowhere_at_all", r"cannot be loaded: ModuleNotFoundError.*line 1"),
        ("\ndef grade(a, b)\n  return 1", r"cannot be loaded: SyntaxError.*line 2"),
        ("raise SystemExit(3)", "cannot be loaded: SystemExit"),
    ],
)
def test_a_file_that_is_no_grader_is_refused(source: str, message: str) -> None:
    with pytest.raises(OwnGraderError, match=message):
        load(source)


def test_an_error_in_a_users_grader_names_its_line() -> None:
    judge = load("def grade(answer, reference):\n    return 1 / int(answer) > 0\n")
    assert judge("4", "x") == {"": "right"}
    with pytest.raises(OwnGraderError, match=r"raised ZeroDivisionError: .*\(line 2\)"):
        judge("0", "x")
