"""Notes on programs that keep the contract and still may not be what is looked for. A note changes no verdict.

Two kinds of evidence: the text (constants it carries), and behaviour: what the program returns for the probes, for zeros
in their place, and for zeros when each parameter bears the name of another one of its shape. Ordinary merges give
nothing when given nothing, so what is left then is the program's own. A program that wants to hide can recognise zeros;
the notes catch the plain cases, and the score on unseen questions judges the rest.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from selfdev_core.algorithm.syntax import parsed
from selfdev_core.records import Flag

if TYPE_CHECKING:
    import torch

    from selfdev_core.sandbox.client import Sandbox

    Tensors = dict[str, torch.Tensor]

MEANING: dict[Flag, str] = {
    "returns-input": "returns one of its inputs unchanged, for every parameter",
    "ignores-inputs": "returns the same whatever it is given",
    "large-constants": "carries large constants in its text",
    "memorised-by-name": "returns values of its own that depend on which parameter it is asked for",
}
_MANY_NUMBERS, _LONG_TEXT, _MANY_DIGITS = 200, 1000, 64
_SAME = 1e-4


def flags_of(source: str, tensors: Tensors, sandbox: Sandbox) -> tuple[Flag, ...]:
    """The notes on a program that was accepted on the probes with these tensors. One or two more runs."""
    found: set[Flag] = set()
    if returns_an_input(tensors, sandbox):
        found.add("returns-input")
    if carries_large_constants(source):
        found.add("large-constants")
    nothing = sandbox.run(source, "probes", "zeros")
    if nothing.reason == "accepted":
        if same(tensors, nothing.tensors):
            found.add("ignores-inputs")
        if any(bool(tensor.any()) for tensor in nothing.tensors.values()):
            renamed = sandbox.run(source, "probes", "zeros-renamed")
            if renamed.reason == "accepted" and not same(nothing.tensors, renamed.tensors):
                found.add("memorised-by-name")
    return tuple(flag for flag in MEANING if flag in found)


def same(one: Tensors, other: Tensors) -> bool:
    """Equal up to float noise: every difference is below 1e-4 of the tensors' own size."""
    return all(
        float((tensor - other[name]).double().norm()) <= _SAME * float(tensor.double().norm() + other[name].norm())
        for name, tensor in one.items()
    )


def returns_an_input(tensors: Tensors, sandbox: Sandbox) -> bool:
    """Is every result bit for bit the task vector of one and the same expert?"""
    import torch

    from selfdev_core.sandbox.bundle import read_bundle

    bundle, vectors = read_bundle(sandbox.bundles["probes"].path)
    return any(
        all(torch.equal(tensor, vectors[name][expert]) for name, tensor in tensors.items()) for expert in bundle.experts
    )


def carries_large_constants(source: str) -> bool:
    """More than 200 numbers, one of more than 64 digits, or more than 1,000 characters of text that is no docstring."""
    numbers = letters = 0
    documentation = set()
    tree = parsed(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            documentation.add(node.value)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or node in documentation:
            continue
        if isinstance(node.value, str | bytes):
            letters += len(node.value)
        elif isinstance(node.value, int) and node.value.bit_length() > 3.33 * _MANY_DIGITS:
            return True
        elif not isinstance(node.value, bool) and node.value is not None:
            numbers += 1
    return numbers > _MANY_NUMBERS or letters > _LONG_TEXT
