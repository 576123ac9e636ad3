"""Prompt templates are files; this reads one and turns a model's continuation into a program."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from selfdev_core.errors import ConfigError

_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
_OPENS_CODE = re.compile(r"(?:^|\n)(?:import |from \S+ import |def merge_models\b)")


def load_prompt(template: str | Path) -> str:
    """The prompt's text, from the package (`miniature`, `paper`) or from the user's file.

    Raises: ConfigError when the file is missing or empty.
    """
    if isinstance(template, str):
        return (files("selfdev_core.algorithm") / "prompts" / f"{template}.txt").read_text(encoding="utf-8")
    try:
        text = template.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"factory.prompt: cannot read {template}: {error}") from error
    if not text.strip():
        raise ConfigError(f"factory.prompt: {template} is empty")
    return text


def program_of(prompt: str, continuation: str) -> str:
    """The program in a model's answer.

    A prompt that ends inside a program (its last line opens `merge_models`) is continued: the program is its code plus
    the continuation. Otherwise the answer's first fenced code block is the program, or the whole answer without one.
    """
    opening = _opening(prompt)
    if opening:
        return opening + continuation
    fenced = _FENCE.search(continuation)
    return fenced.group(1) if fenced else continuation


def continuation_of(prompt: str, source: str) -> str:
    """What a factory has to write after the prompt so that `source` is its program: the inverse of `program_of`."""
    opening = _opening(prompt)
    if opening:
        return source.removeprefix(opening)
    return f"```python\n{source.rstrip()}\n```"


def _opening(prompt: str) -> str:
    """The program text with which the prompt ends, or nothing."""
    if not re.search(r"def merge_models\(.*\):\Z", prompt):
        return ""
    code = _OPENS_CODE.search(prompt)
    return prompt[code.start() :].lstrip("\n") if code else ""
