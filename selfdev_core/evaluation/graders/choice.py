"""Multiple choice: the letter that an answer settles on."""

from __future__ import annotations

import re

from selfdev_core.evaluation.graders.spec import Marks

VERSION = "4"
_LETTER = re.compile(r"\(?([A-Z])\)?\.?")
# In this order: a letter called the answer, the last one; a letter that the answer begins with, unless that begins a list; the
# last one in brackets.
_OPENED = r"\s*+[*(\[{]*+(?i:(?:option|choice)\s++)?+[*(\[]*+"
_SAID = rf"(?i:\banswer(?:\s++is\b|(?=\s*+:))|####)(?:\s*+:)?+{_OPENED}"
_BOXED = r"\\(?:boxed|fbox)\s*+\{(?:\\text\{)?+[*(\[]*+"
# A and I are words, too (`the answer is A bit …`): they must end a statement, or a reason must follow.
_ENDED = r"(?=[).,:;!*\]}]|[^\S\n]*+(?:\n|\Z|[-–—(])|\s++(?i:because|since)\b)"
# So must any letter after a mere `answer`: `Answer C is wrong` speaks of C, and settles on nothing.
_DONE = r"(?=[*)\]}]*+(?:[.;!]|[^\S\n]*+(?:\n|\Z)|\s++(?i:because|since)\b))"
_BARE = rf"(?i:\banswer\b){_OPENED}"
# Small letters are words and names of things: only one that brackets close, or that nothing follows on its line, is a choice.
_SMALL = r"([a-z])(?=[)\]}]|[.*]*+[^\S\n]*+(?:\n|\Z))"
_STATED = re.compile(
    rf"(?:{_SAID}|{_BOXED})(?:([A-Z])\b(?!')(?:(?<![AI])|{_ENDED})|{_SMALL})|{_BARE}([A-Z])\b(?!'){_DONE}"
)
_FIRST = re.compile(r"\s*[*(\[]*(?:([A-Z])(?:[*)\].:,]|\s*$|\s*\n)|([a-z])[)\]])")
_AND_MORE = re.compile(r"\s*[*(\[]*[A-Za-z][)\]]+\s*(?:,|(?i:and|or)\b)\s*[*(\[]*[A-Za-z][)\]]")
_SECOND = re.compile(r"^[^\S\n]*[*(\[]*[bB][)\]]", re.MULTILINE)
_BRACKETED = re.compile(r"\(([A-Z])\)|\b([A-Z])\)")
_SMALL_BRACKETED = re.compile(r"(?<!\w)\(([a-z])\)")  # not `f(x)`, nor `mole(s)`


def refuse(reference: str) -> str:
    """Why no answer could ever meet this reference; empty when one can."""
    return (
        "" if _LETTER.fullmatch(reference.strip()) else "is not one letter, such as B or (B), as grader: choice needs"
    )


def chosen(answer: str) -> str | None:
    """The letter that the answer settles on, as a capital; None if it names none."""
    for found in (
        _STATED.findall(answer),
        _first(answer),
        _BRACKETED.findall(answer),
        _SMALL_BRACKETED.findall(answer),
    ):
        if found:
            return "".join(found[-1]).upper()
    return None


def _first(answer: str) -> list[str]:
    """The letter that the answer begins with; none where it begins to go through the choices."""
    first = _FIRST.match(answer)
    if first is None or _AND_MORE.match(answer):
        return []
    letter = "".join(first.groups(""))
    return [] if letter in "aA" and _SECOND.search(answer) else [letter]


def grade(answer: str, reference: str) -> Marks:
    """Compare letters. A word that merely is a capital letter (`A dog`) is none."""
    given, wanted = chosen(answer), _LETTER.fullmatch(reference.strip())
    if given is None:
        return {"": "unparsable"}
    return {"": "right" if wanted and given == wanted.group(1) else "wrong"}
