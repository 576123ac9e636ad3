"""A user's own grader: a Python file with `grade(answer, reference)`. Runs in a grader process (process.py), never here.

The file is trusted as its owner's code; the answers that it reads are not. What it may return: True, False, 1 or 0; None when
the answer holds nothing to grade; or one of the words right, wrong and unparsable.
"""

from __future__ import annotations

import importlib.util
import inspect
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from selfdev_core.evaluation.graders.spec import Marks
from selfdev_core.records import OutcomeKind

VERSION = "1"
_FILE = "grader.py"
_MAY = "return True, False, None (nothing to grade), or one of right, wrong, unparsable"


class OwnGraderError(Exception):
    """The user's grader cannot be loaded, raised, or returned something else than an outcome."""


def load(source: str) -> Callable[[str, str], Marks]:
    """The grader in a file's text. Raises: OwnGraderError saying what is wrong with it, and on which line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, _FILE)
        path.write_text(source, encoding="utf-8")
        spec = importlib.util.spec_from_file_location("own_grader", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except MemoryError:
            raise
        except BaseException as error:
            raise OwnGraderError(f"cannot be loaded: {_told(error)}") from None
    return _judge(_function(module))


def outcome(value: object) -> OutcomeKind:
    """The outcome that a returned value stands for. Raises: OwnGraderError when it stands for none."""
    item = getattr(value, "item", None)  # numpy and torch scalars
    if callable(item):
        try:
            value = item()
        except (TypeError, ValueError, RuntimeError):
            raise OwnGraderError(f"returned an array, not one outcome; {_MAY}") from None
    if value is None:
        return "unparsable"
    if isinstance(value, str):
        for kind in get_args(OutcomeKind):
            if value == kind:
                return kind  # type: ignore[no-any-return]
    elif isinstance(value, bool | int | float) and value in (0, 1):
        return "right" if value else "wrong"
    mend = "; a share of a right answer cannot be counted, decide where it is right" if isinstance(value, float) else ""
    raise OwnGraderError(f"returned {repr(value)[:80]}{mend}; {_MAY}")


def _function(module: ModuleType) -> Callable[[str, str], Any]:
    function = getattr(module, "grade", None)
    if not callable(function):
        raise OwnGraderError("defines no function grade(answer, reference)")
    if inspect.iscoroutinefunction(function):
        raise OwnGraderError("grade is async; make it a plain function")
    try:
        inspect.signature(function).bind("answer", "reference")
    except TypeError as error:
        raise OwnGraderError(f"grade must take (answer, reference): {error}") from None
    except ValueError:  # a built-in without a signature
        pass
    made: Callable[[str, str], Any] = function
    return made


def _judge(function: Callable[[str, str], Any]) -> Callable[[str, str], Marks]:
    def judge(answer: str, reference: str) -> Marks:
        try:
            value = function(answer, reference)
        except MemoryError:
            raise
        except BaseException as error:
            raise OwnGraderError(f"raised {_told(error)}") from None
        return {"": outcome(value)}

    return judge


def _told(error: BaseException) -> str:
    """What was raised, and the last line of the user's own file that it went through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).name == _FILE]
    line = lines[-1] if lines else getattr(error, "lineno", None)
    return f"{type(error).__name__}: {error}" + (f" (line {line})" if line else "")
