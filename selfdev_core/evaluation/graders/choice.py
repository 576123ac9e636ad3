"""Multiple choice: the letter that an answer settles on."""

from __future__ import annotations

import re

from selfdev_core.evaluation.graders.spec import Marks

VERSION = "2"
_LETTER = re.compile(r"\(?([A-Z])\)?\.?")
# In this order: a letter called the answer, the last one; a letter that the answer begins with; the last one in brackets.
_SAID = r"(?i:\banswer\b(?:\s++is\b)?+|####)(?:\s*+:)?+\s*+[*(\[{]*+(?i:(?:option|choice)\s++)?+[*(\[]*+"
_BOXED = r"\\(?:boxed|fbox)\s*+\{(?:\\text\{)?+[*(\[]*+"
# A and I are words, too (`the answer is A bit …`): they must end a statement, or a reason must follow.
_ENDED = r"(?=[).,:;!*\]}]|[^\S\n]*+(?:\n|\Z|[-–—(])|\s++(?i:because|since)\b)"
_STATED = re.compile(rf"(?:{_SAID}|{_BOXED})([A-Z])\b(?!')(?:(?<![AI])|{_ENDED})")
_FIRST = re.compile(r"\s*[*(\[]*([A-Z])(?:[*)\].:,]|\s*$|\s*\n)")
_BRACKETED = re.compile(r"\(([A-Z])\)|\b([A-Z])\)")


def refuse(reference: str) -> str:
    """Why no answer could ever meet this reference; empty when one can."""
    return (
        "" if _LETTER.fullmatch(reference.strip()) else "is not one letter, such as B or (B), as grader: choice needs"
    )


def chosen(answer: str) -> str | None:
    """The letter that the answer settles on; None if it names none."""
    stated = _STATED.findall(answer)
    if stated:
        return str(stated[-1])
    first = _FIRST.match(answer)
    if first:
        return first.group(1)
    bracketed = _BRACKETED.findall(answer)
    return "".join(bracketed[-1]) if bracketed else None


def grade(answer: str, reference: str) -> Marks:
    """Compare letters. A word that merely is a capital letter (`A dog`) is none."""
    given, wanted = chosen(answer), _LETTER.fullmatch(reference.strip())
    if given is None:
        return {"": "unparsable"}
    return {"": "right" if wanted and given == wanted.group(1) else "wrong"}
