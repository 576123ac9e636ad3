"""Numbers, as GSM8K has them: the strict reading takes the number after `####`, the flexible one the last number.

The two readings are those of lm-eval's task `gsm8k` (strict-match, flexible-extract). Numbers are compared by value here,
not as text: `18.00` is `18`, and `1,234` is `1234`.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from selfdev_core.evaluation.graders.spec import Marks
from selfdev_core.records import OutcomeKind

VERSION = "3"
_FINAL = re.compile(r"####\s*(-?[\d,]*\.?\d+)")
_LINE = re.compile(rf"{_FINAL.pattern}[^\n]*")
_GROUPED = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d*)?")
# Digits, in groups of three or not. A minus sign counts only where no number or word stands before it: `10-3` ends in 3.
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(rf"(?:(?<![\w.)])[-−]\$?|\$-)?(?:{_DIGITS})")


def final_answer(text: str) -> str | None:
    """The number after the first `####`, without thousands separators; None if there is none (GSM8K's format)."""
    found = _FINAL.search(text)
    return found.group(1).replace(",", "") if found else None


def last_number(text: str) -> str | None:
    """The last number of a text, without currency sign and thousands separators; None if there is none."""
    found = ""
    for match in _NUMBER.finditer(text):
        found = match.group()
    return found.replace(",", "").replace("$", "").replace("−", "-") or None


def reference_number(reference: str) -> Decimal | None:
    """The number that a reference answer stands for (`42`, `1,234`, or a solution with `#### 42`); None if it is none.

    Unlike an answer it is read to the end of its line: of `3/4`, `1e5` and `50%` the first digits are another number.
    """
    line = _LINE.search(reference)
    text = (line.group().removeprefix("####") if line else reference).strip()
    try:
        number = Decimal(text.replace(",", "") if _GROUPED.fullmatch(text) else text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def refuse(reference: str) -> str:
    """Why no answer could ever meet this reference; empty when one can."""
    if reference_number(reference) is not None:
        return ""
    return (
        "is not a number (or a solution with `#### number` and nothing behind it on its line), which is all that grader: number "
        "can compare; write 0.75 for 3/4, the number without its unit, and commas between groups of three digits only"
    )


def grade(answer: str, reference: str) -> Marks:
    """Compare as numbers: `42`, `42.0` and a reference of `4.2e1` are one. A reference that is no number is never met."""
    wanted = reference_number(reference)
    return {"strict": _compare(final_answer(answer), wanted), "flexible": _compare(last_number(answer), wanted)}


def _compare(given: str | None, wanted: Decimal | None) -> OutcomeKind:
    if given is None:
        return "unparsable"
    try:
        return "right" if Decimal(given) == wanted else "wrong"
    except InvalidOperation:  # such as `--5`
        return "unparsable"
