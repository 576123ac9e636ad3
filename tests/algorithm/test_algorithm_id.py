"""The identity of a program: what it ignores, what it never ignores."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfdev_core.algorithm.canonical import MAX_SOURCE_BYTES, algorithm_id, canonical_source
from selfdev_core.algorithm.contract import check_source

PLAIN = """\
import torch
def merge_models(model_dict, device):
    total = 0.0
    for name, vector in model_dict.items():
        total = total + 0.5 * vector
    return total
"""

SAME = {
    "names of locals": PLAIN.replace("total", "acc").replace("vector", "delta").replace("name,", "label,"),
    "names of arguments": PLAIN.replace("model_dict", "experts").replace("device", "place"),
    "comments": PLAIN.replace("    total = 0.0\n", "    # start from nothing\n    total = 0.0  # zero\n"),
    "docstring": PLAIN.replace("device):\n", 'device):\n    """Half of everything."""\n'),
    "module docstring": '"""A program."""\n' + PLAIN,
    "layout": PLAIN.replace("total + 0.5 * vector", "(total\n          + (0.5*vector))").replace(
        "\n    for", "\n\n\n    for"
    ),
    "annotations of arguments": PLAIN.replace(
        "(model_dict, device):", "(model_dict: dict[str, torch.Tensor], device: torch.device) -> torch.Tensor:"
    ),
    "annotations of locals": PLAIN.replace("total = 0.0", "total: float = 0.0"),
    "name of an import": PLAIN.replace("import torch", "import torch as t"),
    "spelling of numbers": PLAIN.replace("0.5", "5e-1"),
}

DIFFERENT = {
    "a constant": PLAIN.replace("0.5", "0.6"),
    "kind of number": PLAIN.replace("total = 0.0", "total = 0"),
    "an operator": PLAIN.replace("total + 0.5", "total - 0.5"),
    "a method": PLAIN.replace(".items()", ".values()"),
    "a builtin": PLAIN.replace("return total", "return max(total)"),
    "another builtin": PLAIN.replace("return total", "return min(total)"),
    "order of statements": PLAIN.replace("total = 0.0", "total = 1.0\n    total = 0.0"),
    "which local is returned": PLAIN.replace("return total", "return vector"),
    "the module": PLAIN.replace("import torch", "import math"),
    "the layer argument": PLAIN.replace("device)", "device, layer)"),
    "a string": PLAIN.replace("0.5 * vector", "(0.5 if name == 'alpha' else 0.5) * vector"),
}


@pytest.mark.parametrize("what", SAME)
def test_the_id_ignores(what: str) -> None:
    assert SAME[what] != PLAIN
    assert algorithm_id(SAME[what]) == algorithm_id(PLAIN), canonical_source(SAME[what])


@pytest.mark.parametrize("what", DIFFERENT)
def test_the_id_differs_by(what: str) -> None:
    ids = [algorithm_id(source) for source in (PLAIN, *DIFFERENT.values())]
    assert len(set(ids)) == len(ids)
    assert algorithm_id(DIFFERENT[what]) != algorithm_id(PLAIN)


def test_the_normal_form_parses_and_is_its_own_normal_form() -> None:
    normal = canonical_source(PLAIN)
    ast.parse(normal)
    assert canonical_source(normal) == normal
    assert re.fullmatch(r"a-[0-9a-f]{16}", algorithm_id(PLAIN))


_RICH = """\
import torch
from math import sqrt as root
def scale(NAME0, NAME1=1.0):
    def inner(NAME2):
        nonlocal NAME1
        NAME1 = NAME1 + 1
        return NAME2 * NAME1
    return inner(NAME0)
def merge_models(NAME3, NAME4, layer):
    NAME5 = [scale(NAME6, 2.0) for NAME6 in NAME3.values()]
    try:
        NAME7 = sum(NAME5) / root(layer.count)
    except ZeroDivisionError as NAME8:
        raise ValueError(str(NAME8))
    NAME9 = lambda NAME10: torch.clamp(NAME10, min=-1.0, max=1.0)
    return NAME9(NAME7)
"""
_SLOTS = sorted(set(re.findall(r"NAME\d+", _RICH)), key=lambda slot: -len(slot))
_TAKEN = {"torch", "root", "sqrt", "scale", "inner", "merge_models", "layer", "min", "max", "str", "sum"}
_names = st.from_regex(r"\A[a-z_][a-z0-9_]{0,7}\Z").filter(
    lambda name: name.isidentifier() and name not in _TAKEN and name not in dir(__builtins__) and _usable(name)
)


def _usable(name: str) -> bool:
    import builtins
    import keyword

    return not keyword.iskeyword(name) and name not in dir(builtins)


def _filled(names: list[str]) -> str:
    source = _RICH
    for slot, name in zip(_SLOTS, names, strict=True):
        source = re.sub(rf"\b{slot}\b", name, source)
    return source


@settings(max_examples=60, deadline=None)
@given(st.lists(_names, min_size=len(_SLOTS), max_size=len(_SLOTS), unique=True))
def test_an_injective_renaming_of_locals_keeps_the_id(names: list[str]) -> None:
    assert algorithm_id(_filled(names)) == algorithm_id(_filled([f"local{i}" for i in range(len(_SLOTS))]))


@settings(max_examples=60, deadline=None)
@given(st.lists(_names, min_size=len(_SLOTS), max_size=len(_SLOTS), unique=True), st.data())
def test_a_renaming_that_joins_two_locals_of_the_entry_point_changes_the_id(
    names: list[str], data: st.DataObject
) -> None:
    at = {slot: i for i, slot in enumerate(_SLOTS)}
    one, other = data.draw(st.permutations([at[f"NAME{i}"] for i in (5, 7, 9)]))[:2]
    joined = list(names)
    joined[one] = joined[other]
    assert algorithm_id(_filled(joined)) != algorithm_id(_filled(names))


def test_ids_are_the_same_in_every_process() -> None:
    script = (
        "import sys; from selfdev_core.algorithm.canonical import algorithm_id; print(algorithm_id(sys.stdin.read()))"
    )
    source = _filled([f"x{i}" for i in range(len(_SLOTS))])
    found = {
        subprocess.run(
            [sys.executable, "-c", script], input=source, capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in ("0", "1", "4242")
    }  # fmt: skip
    assert found == {algorithm_id(source)}


def _entry(arguments: str, body: str = "return 0 * sum(model_dict.values())") -> str:
    return f"def merge_models({arguments}):\n    {body}\n"


@pytest.mark.parametrize("arguments", ["model_dict, device, {}", "model_dict, device, *, {}=None"])
def test_the_name_layer_is_kept_because_it_decides_what_is_passed(arguments: str) -> None:
    named, other = _entry(arguments.format("layer")), _entry(arguments.format("depth"))
    assert algorithm_id(named) != algorithm_id(other)
    assert "layer" in canonical_source(named)


COLLISIONS = {
    "keyword arguments of nested functions": (
        "def f(a, b):\n        return a - 2 * b\n    return f(a=1, b=5)",
        "def f(b, a):\n        return b - 2 * a\n    return f(a=1, b=5)",
    ),
    "keyword arguments given by a dictionary": (
        "def f(a, b):\n        return a - 2 * b\n    return f(**{'a': 1, 'b': 5})",
        "def f(b, a):\n        return b - 2 * a\n    return f(**{'a': 1, 'b': 5})",
    ),
    "a keyword spelled as a normalised name": (
        "def g(v0):\n        return model_dict\n    return g(v0=1)",
        "def g(v0):\n        return v0\n    return g(v0=1)",
    ),
    "an undefined name spelled as a normalised name": ("return model_dict", "return v0"),
    "attributes of a class": (
        "class C:\n        x = 1\n        y = 2\n    return C.x",
        "class C:\n        y = 1\n        x = 2\n    return C.x",
    ),
    "names looked up at run time": (
        "x = 1\n    y = 2\n    return locals()['x']",
        "y = 1\n    x = 2\n    return locals()['x']",
    ),
    "names bound by a match statement": (
        "match device:\n        case {'k': x, **y}:\n            return x",
        "match device:\n        case {'k': x, **y}:\n            return y",
    ),
    "which name is nonlocal": (
        "x = y = 0\n    def f():\n        nonlocal x\n        x = 1\n    f()\n    return x, y",
        "x = y = 0\n    def f():\n        nonlocal y\n        x = 1\n    f()\n    return x, y",
    ),
}


@pytest.mark.parametrize("what", COLLISIONS)
def test_programs_of_different_behaviour_keep_different_ids(what: str) -> None:
    one, other = (_entry("model_dict, device", body) for body in COLLISIONS[what])
    assert algorithm_id(one) != algorithm_id(other), canonical_source(one)


UNPARSABLE = {
    "not Python": "def merge_models(model_dict, device:\n  return",
    "empty brackets": "((((",
    "null byte": "x = 1\0",
    "lone surrogate": "x = '\ud800'",
    "over 64 KiB": "x = 1\n" * (MAX_SOURCE_BYTES // 6 + 1),
    "nested too deep": "x = " + "(" * 30000 + ")" * 30000,
    "a chain too long": "x = " + "-" * 60000 + "1",
    "wrong indentation": "def f():\nreturn 1",
}


@pytest.mark.parametrize("what", UNPARSABLE)
def test_a_text_that_does_not_parse_gets_an_x_id_and_a_verdict(what: str) -> None:
    source = UNPARSABLE[what]
    assert re.fullmatch(r"x-[0-9a-f]{16}", algorithm_id(source))
    assert algorithm_id(source) != algorithm_id(source + " ")
    refusal = check_source(source)
    assert refusal is not None and refusal.reason == "syntax-error" and refusal.detail


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200))
def test_any_text_has_an_id_and_a_verdict(source: str) -> None:
    assert re.fullmatch(r"[ax]-[0-9a-f]{16}", algorithm_id(source))
    assert check_source(source) is not None
