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


def grade(answer: str, reference: str) -> OutcomeKind:
    """Compare as numbers (`42`, `42.0` and `4,2e1` written `42` are one); fall back to text for references that are none."""
    given = final_answer(answer)
    if given is None:
        return "unparsable"
    wanted = final_answer(reference) or reference.strip().replace(",", "")
    try:
        return "right" if Decimal(given) == Decimal(wanted) else "wrong"
    except InvalidOperation:
        return "right" if given == wanted else "wrong"
