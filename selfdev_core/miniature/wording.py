"""The small vocabulary and the phrase language of the word problems, and what makes two wordings the same.

A template is plain text with slots: `<gives|hands>` picks one phrase, `{A}` `{B}` `{C}` are person names, `{o}` is
an object and every other `{name}` is a number. Wordings multiply: four slots and twelve objects make hundreds.
"""

from __future__ import annotations

import random
import re

NAMES = ("Tom", "Mia", "Ben", "Lea", "Sam", "Eva", "Max", "Zoe", "Dan", "Ida", "Leo", "Amy")
OBJECTS = (
    "apples",
    "books",
    "coins",
    "cards",
    "stones",
    "shells",
    "pens",
    "eggs",
    "cups",
    "keys",
    "stamps",
    "plums",
)

_CHOICE = re.compile(r"<([^<>]*)>")
_NAME = re.compile(r"\b(?:" + "|".join(NAMES) + r")\b")
_NUMBER = re.compile(r"\d+")


def fill(template: str, numbers: dict[str, int], rng: random.Random) -> str:
    """One wording of a template: phrases, names and objects drawn from `rng`, numbers put in from `numbers`.

    Raises:
        KeyError: the template has a slot that is neither a name, an object nor in `numbers`.
    """
    text = _CHOICE.sub(lambda match: rng.choice(match.group(1).split("|")), template)
    people = rng.sample(NAMES, 3)
    return text.format(A=people[0], B=people[1], C=people[2], o=rng.choice(OBJECTS), **numbers)


def skeleton(text: str) -> str:
    """The wording with every number replaced by `#` and every person's name by `@`.

    Two questions with one skeleton are the same problem up to numbers and names; splits never share a skeleton.
    """
    return _NUMBER.sub("#", _NAME.sub("@", text))
