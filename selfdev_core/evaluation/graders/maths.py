r"""Mathematics, as MATH has it: Math-Verify says whether two expressions are the same. Runs in a grader process.

The strict reading takes what stands in the last `\boxed{}`; the flexible one, where there is none, whatever Math-Verify finds
to be the final expression. Math-Verify's own time limits are signals, which its threads may not set: they are switched off,
and the process is killed at its deadline instead.
"""

from __future__ import annotations

import re

from selfdev_core.evaluation.graders.spec import Marks
from selfdev_core.records import OutcomeKind

VERSION = "1"
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*(?:\{|(\S))")


def boxed(text: str) -> str | None:
    r"""What stands in the last `\boxed{}` (or `\fbox{}`) that is closed; None if there is none."""
    for match in reversed(list(_BOXED.finditer(text))):
        if match.group(1):
            return match.group(1)
        depth, at = 1, match.end()
        while depth and at < len(text):
            if text[at] == "\\":
                at += 1  # an escaped brace counts for nothing
            else:
                depth += {"{": 1, "}": -1}.get(text[at], 0)
            at += 1
        if not depth:
            return text[match.end() : at - 1]
    return None


def refuse(reference: str) -> str:
    """Why no answer could ever meet this reference; empty when one can."""
    return "" if wanted(reference).strip() else "is empty, and no answer would meet it"


def wanted(reference: str) -> str:
    r"""The expression that a reference stands for: what is in its last `\boxed{}`, or all of it."""
    inside = boxed(reference)
    return reference.strip() if inside is None else inside


def grade(answer: str, reference: str) -> Marks:
    """Right when Math-Verify finds the expressions equal; of names and other words, when they are the same text."""
    gold, inside = wanted(reference), boxed(answer)
    if inside is not None:
        one = _of_boxed(inside, gold)
        return {"strict": one, "flexible": one}
    found = expressions(answer)
    if not found:
        return {"strict": "unparsable", "flexible": "unparsable"}
    return {"strict": "unparsable", "flexible": "right" if _verified(gold, found) else "wrong"}


def warm() -> None:
    """Load Math-Verify with all that it needs to read and compare: seconds, which the first answer would have to take."""
    grade(r"\boxed{\frac{1}{2}}", "0.5")
    grade("It is 1/2.", "0.5")


def _of_boxed(inside: str, gold: str) -> OutcomeKind:
    if not inside.strip():
        return "unparsable"
    return "right" if _verified(gold, expressions(rf"\boxed{{{inside}}}")) else "wrong"


def expressions(text: str) -> list[object]:
    """What Math-Verify reads in a text: SymPy expressions, or the text of one that it cannot parse; empty for nothing."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    ways = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())
    found: list[object] = parse(text, ways, parsing_timeout=None)
    return found


def _verified(gold: str, found: list[object]) -> bool:
    from math_verify import verify

    return bool(verify(expressions(rf"\boxed{{{gold}}}"), found, timeout_seconds=None))
