"""Word problems on demand, in four splits that never share a wording.

The split of a question is a hash of its skeleton (the text without its numbers and names), so it is the same in every
process and no wording of the training split can return in the search, validation or test split.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from selfdev_core.miniature.skills import SKILLS, Skill, solve
from selfdev_core.miniature.wording import fill, skeleton

__all__ = ["Question", "Split", "draw", "questions", "skeleton", "skills_of", "split_of"]

Split = Literal["train", "search", "validation", "test"]

_TRAIN_PERCENT, _SEARCH_PERCENT, _VALIDATION_PERCENT = 64, 12, 12
_DRAWS_PER_QUESTION = 400


class Question(NamedTuple):
    """One word problem: `answer` is the final number as text, `solution` the worked solution ending `#### answer`."""

    id: str
    question: str
    answer: str
    solution: str
    skill: str


def split_of(question: str) -> Split:
    """The split a question's wording belongs to."""
    share = int.from_bytes(hashlib.sha256(skeleton(question).encode()).digest()[:8], "big") % 100
    if share < _TRAIN_PERCENT:
        return "train"
    if share < _TRAIN_PERCENT + _SEARCH_PERCENT:
        return "search"
    return "validation" if share < _TRAIN_PERCENT + _SEARCH_PERCENT + _VALIDATION_PERCENT else "test"


def skills_of(family: str, expert: str | None = None) -> tuple[Skill, ...]:
    """The skills of a family, or those one of its experts is trained on.

    Raises:
        ValueError: unknown family or expert.
    """
    if family not in SKILLS:
        raise ValueError(f"unknown miniature family {family!r}: expected one of {sorted(SKILLS)}")
    if expert is None:
        return tuple(skill for skills in SKILLS[family].values() for skill in skills)
    if expert not in SKILLS[family]:
        raise ValueError(f"family {family!r} has no expert {expert!r}: expected one of {sorted(SKILLS[family])}")
    return SKILLS[family][expert]


def draw(skill: Skill, split: Split, rng: random.Random) -> Question:
    """One random question of a skill from a split."""
    for _ in range(_DRAWS_PER_QUESTION):
        form = rng.choice(skill.forms)
        numbers = form.numbers(rng)
        text = fill(form.template, numbers, rng)
        if split_of(text) == split:
            solution, answer = solve(form.steps, numbers)
            identity = hashlib.sha256(f"{text}\n{solution}".encode()).hexdigest()[:12]
            return Question(f"{skill.name}-{identity}", text, str(answer), solution, skill.name)
    raise ValueError(f"skill {skill.name!r} has no wording in the {split} split")


def questions(family: str, split: Split, count: int, seed: int = 0) -> list[Question]:
    """`count` distinct questions, balanced over the family's skills (in rotation), the same in every process.

    A longer list begins with the shorter one of the same seed.

    Raises:
        ValueError: unknown family or split, a count below 1, or more questions asked for than the split holds.
    """
    skills = skills_of(family)
    if split not in get_args(Split):
        raise ValueError(f"unknown split {split!r}: expected one of {', '.join(get_args(Split))}")
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    rng = random.Random(f"{family}/{split}/{seed}")
    seen: set[str] = set()
    found: list[Question] = []
    while len(found) < count:
        found.append(_unseen(skills, len(found), split, rng, seen))
    return found


def _unseen(skills: Sequence[Skill], index: int, split: Split, rng: random.Random, seen: set[str]) -> Question:
    skill = skills[index % len(skills)]
    for _ in range(_DRAWS_PER_QUESTION):
        question = draw(skill, split, rng)
        if question.question not in seen:
            seen.add(question.question)
            return question
    raise ValueError(
        f"the {split} split holds fewer distinct {skill.name!r} questions than asked for (stopped at {index})"
    )
