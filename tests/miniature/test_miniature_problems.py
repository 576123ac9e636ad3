"""The word problems: splits that share no wording, the same in every process, and solutions that add up."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from typing import get_args

import pytest

from selfdev_core.miniature.problems import Split, questions, skeleton, skills_of, split_of
from selfdev_core.miniature.skills import SKILLS

FAMILIES = sorted(SKILLS)
COUNTS: dict[Split, int] = {"train": 4000, "search": 600, "validation": 800, "test": 1600}


@pytest.mark.parametrize("family", FAMILIES)
def test_no_wording_stands_in_two_splits(family: str) -> None:
    wordings = {split: {skeleton(q.question) for q in questions(family, split, n)} for split, n in COUNTS.items()}
    for split, own in wordings.items():
        for other in set(wordings) - {split}:
            assert not own & wordings[other]
    assert len(wordings["train"]) > 200 * len(skills_of(family))


def test_families_share_no_wording() -> None:
    first, second = ({skeleton(q.question) for s in COUNTS for q in questions(f, s, COUNTS[s])} for f in FAMILIES)
    assert not first & second


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("split", get_args(Split))
def test_questions_are_distinct_balanced_and_of_their_split(family: str, split: Split) -> None:
    found = questions(family, split, COUNTS[split])
    assert len({q.question for q in found}) == len({q.id for q in found}) == COUNTS[split]
    assert {split_of(q.question) for q in found} == {split}
    per_skill = [sum(q.skill == skill.name for q in found) for skill in skills_of(family)]
    assert max(per_skill) - min(per_skill) <= 1


@pytest.mark.parametrize("family", FAMILIES)
def test_every_solution_checks_out(family: str) -> None:
    for question in questions(family, "test", 1600, seed=5):
        *lines, final = question.solution.split("\n")
        for line in lines:
            left, operator, right, result = re.fullmatch(r"(\d+)([-+*/])(\d+)=(\d+)", line).groups()  # type: ignore[union-attr]
            a, b = int(left), int(right)
            expected = {"+": a + b, "-": a - b, "*": a * b, "/": a / b}[operator]
            assert expected == int(result), question
        assert final == f"#### {question.answer}" and lines[-1].endswith(f"={question.answer}")
        numbers = set(re.findall(r"\d+", question.question)) | {"2", "3"}
        results = {line.partition("=")[2] for line in lines}
        assert all(set(re.findall(r"\d+", line.partition("=")[0])) <= numbers | results for line in lines)


def test_a_longer_list_begins_with_the_shorter_one_and_seeds_differ() -> None:
    assert questions("arithmetic", "search", 300)[:100] == questions("arithmetic", "search", 100)
    assert questions("arithmetic", "search", 100, seed=1) != questions("arithmetic", "search", 100)


def test_questions_are_the_same_in_every_process() -> None:
    script = (
        "import hashlib; from selfdev_core.miniature.problems import questions;"
        "print(hashlib.sha256(repr([questions(f, s, 200, 3) for f in ('arithmetic', 'transfer')"
        " for s in ('train', 'search', 'validation', 'test')]).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    here = [questions(f, s, 200, 3) for f in ("arithmetic", "transfer") for s in get_args(Split)]
    assert digests == {hashlib.sha256(repr(here).encode()).hexdigest()}


def test_wrong_requests_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="unknown miniature family 'algebra'"):
        questions("algebra", "test", 1)
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        questions("arithmetic", "dev", 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1, got 0"):
        questions("arithmetic", "test", 0)
    with pytest.raises(ValueError, match="no expert 'gamma'"):
        skills_of("arithmetic", "gamma")


def test_a_skeleton_forgets_numbers_and_names_only() -> None:
    assert (
        skeleton("Tom has 14 apples, Mia's 3.") == skeleton("Eva has 2 apples, Ben's 30.") == "@ has # apples, @'s #."
    )
    assert skeleton("Tom has 14 apples.") != skeleton("Tom has 14 plums.")
