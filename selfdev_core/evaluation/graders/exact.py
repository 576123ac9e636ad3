"""The same text: an answer is right when it reads as the reference does, however it is spaced."""

from __future__ import annotations

from selfdev_core.evaluation.graders.spec import Marks

VERSION = "1"


def refuse(reference: str) -> str:
    """Why no answer could ever meet this reference; empty when one can."""
    return "" if reference.strip() else "is empty, and no answer would meet it"


def grade(answer: str, reference: str) -> Marks:
    """The text after the last `####`, or the whole answer, with every run of white space as one space; case counts."""
    given = _plain(answer.rpartition("####")[2])
    if not given:
        return {"": "unparsable"}
    return {"": "right" if given == _plain(reference.rpartition("####")[2]) else "wrong"}


def _plain(text: str) -> str:
    return " ".join(text.split())
