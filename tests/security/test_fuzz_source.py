"""Any text gives a verdict that can be stored, and leaves the sandbox alive."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfdev_core.miniature.programs import sample_program
from selfdev_core.records import Level, Verdict
from selfdev_core.sandbox.client import Sandbox
from selfdev_core.sandbox.validate import validate
from tests.security.examine import HARMLESS, Setting
from tests.security.levels import LEVELS

_SPLICES = (
    "\0", "\ud800", "\r", "\f", "\\", "'''", "(", ")", "[", ":", "\n", "\t", " ", "0", "-1", "1e999", "2**999", "None", "...",
    "del a", "return", "yield", "await x", "lambda: 0", "global a", "nonlocal a", "raise", "assert 0", "a.resize_(0)",
    "torch.empty(2**62)", "a.set_()", "a.T", ".storage()", "torch.os._exit(0)", "exit()", "\nwhile True: break\n",
    "\nimport os\n", "__import__('os').abort()", "layer", "model_dict.clear()", "device", "*a", "**{}", ":=", "@",
)  # fmt: skip


@st.composite
def _mutants(draw: st.DrawFn) -> str:
    """A program of the grammar with up to four cuts, splices, swaps or doublings."""
    source = sample_program(random.Random(draw(st.integers(0, 10**6))))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(source)))
        end = min(len(source), start + draw(st.integers(0, 12)))
        how = draw(st.integers(0, 3))
        middle = (
            "",
            draw(st.sampled_from(_SPLICES) | st.text(max_size=3)),
            source[start:end][::-1],
            2 * source[start:end],
        )
        source = source[:start] + middle[how] + source[end:]
    return source


_lines = st.lists(st.sampled_from(_SPLICES) | st.text(max_size=8), max_size=8).map(
    lambda parts: "def merge_models(model_dict, device):\n    a, b = model_dict.values()\n    " + " ".join(parts)
)
_any = st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("utf-8", "surrogateescape"))


@pytest.mark.parametrize(
    ("level", "examples"), [(LEVELS[0], 100), *(pytest.param(level, 1500, marks=pytest.mark.slow) for level in LEVELS)]
)
def test_any_source_gives_a_verdict_and_the_sandbox_lives(
    level: Level, examples: int, jail: Callable[[Level], tuple[Sandbox, Setting]]
) -> None:
    import torch

    sandbox, setting = jail(level)

    @settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(_mutants() | _lines | _any, st.booleans())
    def judge(source: str, past_the_check: bool) -> None:
        sandbox.seconds = 5.0
        if past_the_check:
            run = sandbox.run(source, "probes")
            assert (run.reason == "accepted") == bool(run.tensors)
            run.detail.encode()
        else:
            verdict = validate("a-0", source, sandbox)
            assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict

    judge()
    after = setting.run(HARMLESS, 20.0)
    assert all(torch.equal(after.tensors[name], tensor) for name, tensor in setting.right.items())
    assert not setting.census.strangers()
    assert setting.world.harms() == []
