"""Grading: the final answer of a solution, and right, wrong or unparsable."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from selfdev_core.records import OutcomeKind

GRADER_VERSION = 1
_FINAL = re.compile(r"####\s*(-?[\d,]*\.?\d+)")


def final_answer(text: str) -> str | None:
    """The number after the first `####`, without thousands separators; None if there is none (GSM8K's format)."""
    found = _FINAL.search(text)
    return found.group(1).replace(",", "") if found else None


def reference_number(reference: str) -> Decimal | None:
    """The number that a reference answer stands for (`42`, `1,234`, or a solution with `#### 42`); None if it is none."""
    try:
        number = Decimal(final_answer(reference) or reference.strip().replace(",", ""))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def grade(answer: str, reference: str) -> OutcomeKind:
    """Compare as numbers: `42`, `42.0` and a reference of `4.2e1` are one. A reference that is no number is never met."""
    given = final_answer(answer)
    if given is None:
        return "unparsable"
    return "right" if Decimal(given) == reference_number(reference) else "wrong"
