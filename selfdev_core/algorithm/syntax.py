"""Parsing a program's text. Python 3.11 keeps one counter of depth for all threads that build syntax trees, so two at once can
end in a SystemError ("recursion depth mismatch") that says nothing of the program: parsing is done one at a time, and again."""

from __future__ import annotations

import ast
import threading

_TRIES = 5  # somebody else in this process may parse, too
_turn = threading.Lock()


def parsed(source: str) -> ast.Module:
    """The syntax tree. Raises: SyntaxError, ValueError, RecursionError or MemoryError, as `ast.parse`."""
    for _ in range(_TRIES - 1):
        try:
            with _turn:
                return ast.parse(source)
        except SystemError:
            continue
    with _turn:
        return ast.parse(source)
