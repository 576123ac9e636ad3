"""Notes on programs that keep the contract and still look like cheats; ordinary programs get none."""

from __future__ import annotations

import random

import pytest

from selfdev_core.config import ControlsConfig
from selfdev_core.merging.human import human_algorithms
from selfdev_core.miniature.programs import sample_program
from selfdev_core.sandbox.client import Sandbox
from selfdev_core.sandbox.validate import validate

HEAD = "import torch\n"


def _program(body: str, arguments: str = "model_dict, device, layer") -> str:
    return f"{HEAD}def merge_models({arguments}):\n    a, b = model_dict.values()\n    {body}\n"


NUMBERS = "T = [" + ", ".join(str(n / 7) for n in range(300)) + "]\n"
FLAGGED = {
    "returns its first input": (_program("return a"), {"returns-input"}),
    "returns a copy of an input": (_program("return 1.0 * b + 0.0 * a"), {"returns-input"}),
    "returns zeros": (_program("return torch.zeros_like(a)"), {"ignores-inputs"}),
    "returns one noise whatever it is given": (_program("return torch.randn(a.shape)"), {"ignores-inputs"}),
    "returns values picked by depth": (
        _program("return torch.zeros_like(a) + [0.3, 0.7][layer.index]"), {"ignores-inputs", "memorised-by-name"}
    ),
    "adds values picked by name": (
        _program("return 0.5 * (a + b) + {'model.layers.0.mlp.up_proj.weight': 0.1}.get(layer.name, 0.2)"),
        {"memorised-by-name"},
    ),
    "adds a constant": (_program("return 0.5 * (a + b) + 0.01"), set()),
    "adds noise": (_program("return 0.5 * (a + b) + 0.01 * torch.randn_like(a)"), set()),
    "carries a table": (NUMBERS + _program("return 0.5 * (a + b)"), {"large-constants"}),
    "carries a text": (f"B = {'x' * 2000!r}\n" + _program("return 0.5 * (a + b)"), {"large-constants"}),
    "carries a giant number": (f"N = {10**80}\n" + _program("return 0.5 * (a + b)"), {"large-constants"}),
    "has a long docstring": (f"'''{'word ' * 1000}'''\n" + _program("return 0.5 * (a + b)"), set()),
    "chooses coefficients by name": (_program("return (0.3 if 'down' in layer.name else 0.6) * (a + b)"), set()),
    "chooses coefficients by depth": (_program("return layer.index / layer.count * a + 0.5 * b"), set()),
}  # fmt: skip


@pytest.mark.parametrize("what", FLAGGED)
def test_a_program_that(what: str, sandbox: Sandbox) -> None:
    source, flags = FLAGGED[what]
    verdict = validate("a-0", source, sandbox)
    assert verdict.accepted and set(verdict.flags) == flags, verdict


@pytest.mark.parametrize(
    "body",
    [
        "return a * (__import__('time').time_ns() % 1000)",
        "return a * int.from_bytes(__import__('os').urandom(2))",
        "return a * __import__('numpy').random.default_rng().random()",
        "return a * __import__('random').SystemRandom().random()",
    ],
)
def test_a_program_that_differs_from_run_to_run_is_rejected(body: str, sandbox: Sandbox) -> None:
    assert validate("a-0", _program(body), sandbox).reason == "not-deterministic"


@pytest.mark.parametrize("count", [100, pytest.param(5000, marks=pytest.mark.slow)])
def test_no_program_of_the_grammar_and_no_human_algorithm_is_rejected_or_suspected(
    count: int, sandbox: Sandbox
) -> None:
    rng = random.Random(count)
    sources = [one.source for one in human_algorithms(ControlsConfig())] + [sample_program(rng) for _ in range(count)]
    for source in sources:
        verdict = validate("a-0", source, sandbox)
        assert verdict.accepted, (verdict, source)
        assert not set(verdict.flags) & {"large-constants", "memorised-by-name"}, (verdict, source)
