"""Fingerprints: equal for programs that compute the same, different for programs that do not."""

from __future__ import annotations

import pytest

from selfdev_core.sandbox.client import Sandbox
from selfdev_core.sandbox.validate import fingerprint, validate


def _print_of(sandbox: Sandbox, expression: str, arguments: str = "m, device") -> str:
    source = f"import torch\ndef merge_models({arguments}):\n    a, b = m.values()\n    return {expression}\n"
    verdict = validate("a-0", source, sandbox)
    assert verdict.accepted, verdict
    return verdict.fingerprint


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0.5 * (a + b)", "torch.stack([a, b]).mean(0)"),
        ("0.5 * (a + b)", "(b + a) / 2"),
        ("0.3 * a + 0.3 * b + 0.1 * a", "0.1 * a + (0.3 * b + 0.3 * a)"),
        ("0.7 * a - 0.2 * b", "(0.7 * a.double() - 0.2 * b.double())"),
        ("torch.where(a.abs() > b.abs(), a, b)", "torch.where(b.abs() < a.abs(), a, b)"),
        ("0 * a", "torch.zeros_like(b)"),
        ("0 * a", "-0.0 * b"),
    ],
)
def test_equal_functions_have_equal_fingerprints(one: str, other: str, sandbox: Sandbox) -> None:
    assert _print_of(sandbox, one) == _print_of(sandbox, other)


def test_different_functions_have_different_fingerprints(sandbox: Sandbox) -> None:
    different = [
        "0.5 * a + 0.5 * b",
        "0.52 * a + 0.5 * b",
        "0.5 * a + 0.52 * b",
        "0.6 * a + 0.4 * b",
        "0.4 * a + 0.6 * b",
        "-0.5 * a - 0.5 * b",
        "a",
        "b",
        "0 * a",
        "a * b",
        "torch.maximum(a, b)",
        "torch.sign(a + b) * 0.1",
    ]
    prints = {expression: _print_of(sandbox, expression) for expression in different}
    prints["by depth"] = _print_of(sandbox, "0.5 * a + 0.5 * b + 0.1 * layer.index * a", "m, device, layer")
    assert len(set(prints.values())) == len(prints), prints
    assert all(len(one) == 16 for one in prints.values())


def test_a_program_that_takes_layer_and_does_not_use_it_has_the_fingerprint_of_one_that_does_not(
    sandbox: Sandbox,
) -> None:
    assert _print_of(sandbox, "0.5 * (a + b)", "m, device, layer") == _print_of(sandbox, "0.5 * (a + b)")


def test_float_noise_does_not_change_a_fingerprint() -> None:
    import torch

    generator = torch.Generator().manual_seed(0)
    changed = 0
    for _ in range(200):
        tensor = torch.randn(24, 40, generator=generator)
        noisy = tensor * (1 + 1e-6 * torch.randn(24, 40, generator=generator))
        changed += fingerprint({"w": tensor}) != fingerprint({"w": noisy})
    assert changed <= 2
