"""Sources that attack whatever reads them. The check of the text refuses most; here they meet the sandbox itself."""

from __future__ import annotations

from tests.security.hostile.model import ALIVE, HELD, STOPPED, TOO_BIG, Hostile, text

_MERGE = "def merge_models(model_dict, device):\n    return next(iter(model_dict.values()))\n"
_REFUSED = frozenset({"exception", "syntax-error", "contract"})
_HEAVY = _REFUSED | TOO_BIG | frozenset({"crashed", "time-limit"})

TEXTS: tuple[Hostile, ...] = (
    text("is empty", "", _REFUSED),
    text("is blank", " \t\f\n\r\n" * 100, _REFUSED),
    text("holds a null byte", f"x = 1\0\n{_MERGE}", _REFUSED),
    text("is all null bytes", "\0" * 4096, _REFUSED),
    text("holds a lone surrogate", f"x = '\ud800'\n{_MERGE}", _REFUSED | ALIVE),
    text("begins with a mark of byte order", f"\ufeff{_MERGE}", _REFUSED | ALIVE),
    text("names another encoding", f"# coding: utf-7\n{_MERGE}", _REFUSED | ALIVE, passes_check=True),
    text("names an encoding that does not exist", f"# coding: escape\n{_MERGE}", _REFUSED | ALIVE, passes_check=True),
    text(
        "hides code by the direction of writing",
        f"s = '\u202e'; x = 1 / 0  # \u2066\n{_MERGE}",
        HELD,
        passes_check=True,
    ),
    text("uses letters that look alike", _MERGE.replace("merge_models", "m\u0435rge_models"), _REFUSED),
    text(
        "uses wide letters that are the same name",
        _MERGE.replace("merge", "\uff4d\uff45\uff52\uff47\uff45"),
        _REFUSED | ALIVE,
        passes_check=True,
    ),
    text("ends lines in every way", _MERGE.replace("\n", "\r\n\f").replace("return", "\x0breturn"), _REFUSED | ALIVE),
    text("is 10 MB of comment", "#" + "x" * 10_000_000 + f"\n{_MERGE}", _REFUSED | ALIVE | TOO_BIG),
    text("is 10 MB of statements", "x = 1\n" * 1_600_000 + _MERGE, _HEAVY | ALIVE),
    text("is 10 MB of one text", f"x = '{'y' * 10_000_000}'\n{_MERGE}", _REFUSED | ALIVE | TOO_BIG),
    text("nests brackets", f"x = {'(' * 50_000}{')' * 50_000}\n{_MERGE}", _HEAVY),
    text("nests lists", f"x = {'[' * 150}{']' * 150}\n{_MERGE}", _REFUSED | ALIVE, passes_check=True),
    text("negates without end", f"x = {'-' * 60_000}1\n{_MERGE}", _HEAVY | ALIVE),
    text("adds without end", f"x = 1{' + 1' * 15_000}\n{_MERGE}", _HEAVY | ALIVE),
    text("has attributes without end", f"x = torch{'.a' * 30_000}\n{_MERGE}", _HEAVY | ALIVE),
    text(
        "nests functions", "".join(f"{' ' * i}def f():\n" for i in range(150)) + " " * 150 + "pass\n" + _MERGE, _REFUSED
    ),
    text(
        "folds a huge constant",
        f"x = (1 << 4096) * (1 << 4096) * ((1 << 2**36) if 0 else 1)\n{_MERGE}",
        ALIVE | _HEAVY,
        passes_check=True,
    ),
    text(
        "repeats a constant",
        f"x = ((((('a' * 4096) * 4096) * 4096) * 4096) * 4096)\n{_MERGE}",
        _HEAVY,
        passes_check=True,
    ),
    text("writes a number of a million digits", f"x = {'9' * 60_000}\n{_MERGE}", _REFUSED | ALIVE),
    text("asks for braces", f"from __future__ import braces\n{_MERGE}", _REFUSED),
    text("ends inside a text", 'x = """' + _MERGE, _REFUSED),
    text("defines a class by the right name", "class merge_models:\n    def __init__(self, *a): pass\n", _REFUSED),
    text("defines a coroutine by the right name", "async " + _MERGE, _REFUSED | frozenset({"wrong-type"})),
    text(
        "defines a generator by the right name",
        "def merge_models(model_dict, device):\n    yield 1\n",
        frozenset({"wrong-type"}),
        passes_check=True,
    ),
    text("defines a number by the right name", "merge_models = 1\n", _REFUSED),
    text(
        "defines an object whose code lies",
        f"{_MERGE}class Liar:\n    __code__ = merge_models.__code__\n"
        f"    def __call__(self, *a, **k): raise SystemExit\nmerge_models = Liar()\n",
        frozenset({"exited"}),
        passes_check=True,
    ),
    text(
        "defines an object whose code never ends",
        f"{_MERGE}class Liar:\n    def __getattr__(self, name):\n        while True: pass\nmerge_models = Liar()\n",
        STOPPED,
        "stalls",
        passes_check=True,
    ),
    text("deletes its function", f"{_MERGE}del merge_models\n", _REFUSED, passes_check=True),
    text("replaces the names around it", f"{_MERGE}globals().clear()\n", _REFUSED, passes_check=True),
)
