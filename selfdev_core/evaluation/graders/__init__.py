"""Graders: each says of an answer, beside its reference, whether it is right, wrong or unparsable.

One module per grader, with VERSION, `grade(answer, reference)` and `refuse(reference)`; pool.py runs those that may hang.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from selfdev_core.asking import TWO_WAYS, Extraction, GraderName
from selfdev_core.errors import ConfigError
from selfdev_core.evaluation.graders import choice, exact, maths, number, own
from selfdev_core.evaluation.graders.spec import GraderSpec

_MODULES = {"number": number, "exact": exact, "choice": choice, "math": maths}


def grader_of(grader: GraderName | Path, extraction: Extraction | None) -> GraderSpec:
    """The exact grader of a setting: its version, and for one's own the text of its file.

    Raises: ConfigError when the file cannot be read, or Math-Verify is not installed.
    """
    if isinstance(grader, Path):
        try:
            return GraderSpec(name="own", version=own.VERSION, source=grader.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            known = ", ".join(_MODULES)
            raise ConfigError(
                f"questions.grader: cannot read {grader} ({error}); give {known}, or a Python file of your own"
            ) from error
    made = _MODULES[grader].VERSION
    if grader == "math":
        try:
            made = f"{made} math-verify {version('math-verify')} sympy {version('sympy')}"
        except PackageNotFoundError as missing:
            raise ConfigError(f"questions.grader: math needs {missing.name}: pip install math-verify") from None
    return GraderSpec(name=grader, version=made, extraction=(extraction or "strict") if grader in TWO_WAYS else "")


def refuse(spec: GraderSpec, reference: str) -> str:
    """Why no answer could ever meet this reference under this grader; empty when one can."""
    return "" if spec.name == "own" else _MODULES[spec.name].refuse(reference)
