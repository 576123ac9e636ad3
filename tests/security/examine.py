"""Runs one hostile program and says everything that is wrong afterwards. Knows no particular sandbox."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tests.security.census import Census
from tests.security.hostile.model import Hostile
from tests.security.world import SHAPES, Finding, World

if TYPE_CHECKING:
    import torch

HARMLESS = """\
import torch

def merge_models(model_dict, device):
    a, b = model_dict.values()
    left = float(hasattr(torch, "left_behind"))
    return 0.25 * a + 0.5 * (b * torch.rand(a.shape)) + left + 0.5 * sum(model_dict.values())
"""
LATE = 0.5


class Outcome(Protocol):
    """What a sandbox says of one run: a verdict, some words, and tensors if the verdict is "accepted"."""

    @property
    def reason(self) -> str: ...
    @property
    def detail(self) -> str: ...
    @property
    def tensors(self) -> dict[str, torch.Tensor]: ...


class Setting(NamedTuple):
    """`run(source, seconds)` is the sandbox; `right` is what it gives for `HARMLESS`."""

    run: Callable[[str, float], Outcome]
    world: World
    census: Census
    right: Mapping[str, torch.Tensor]


def examine(hostile: Hostile, setting: Setting) -> list[Finding]:
    """Empty when the program was held and named rightly, and the next program is none the wiser."""
    import torch

    seconds = 0.3 if hostile.harm == "stalls" else 20.0
    began = time.monotonic()
    outcome = setting.run(setting.world.source(hostile.source), seconds)
    took = time.monotonic() - began
    handed = {name: tensor.clone() for name, tensor in outcome.tensors.items()}
    after = setting.run(HARMLESS, 20.0)
    found = []
    if strangers := setting.census.strangers():
        found.append(Finding("outlives", f"{len(strangers)} processes are left"))
        setting.census.end(strangers)
    if hostile.harm == "stalls" and took > seconds + LATE:
        found.append(Finding("stalls", f"took {took:.2f} s of {seconds} s"))
    if after.reason != "accepted" or not _equal(after.tensors, setting.right):
        found.append(Finding("lingers", f"the next program gives {after.reason} {after.detail} and other tensors"))
    if not _equal(outcome.tensors, handed):
        found.append(Finding("breaks", "its tensors change after they were checked"))
    if (outcome.reason == "accepted") != bool(outcome.tensors):
        found.append(Finding("breaks", f"{outcome.reason} with {len(outcome.tensors)} tensors"))
    if outcome.tensors:
        shapes = {name: tuple(tensor.shape) for name, tensor in outcome.tensors.items()}
        plain = all(type(t) is torch.Tensor and t.dtype == torch.float32 for t in outcome.tensors.values())
        if shapes != SHAPES or not plain or not all(bool(t.isfinite().all()) for t in outcome.tensors.values()):
            found.append(Finding("breaks", "its tensors break the contract"))
    if not outcome.detail.replace("\n", "").isprintable():
        found.append(Finding("breaks", f"its words could command a terminal: {outcome.detail!r}"))
    found += setting.world.secrets_in(outcome.tensors, outcome.detail)
    found += setting.world.harms()
    if outcome.reason not in hostile.reasons:
        right = ", ".join(sorted(hostile.reasons))
        found.append(Finding("verdict", f"{outcome.reason} ({outcome.detail}) where {right} is right"))
    return found


def _equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    import torch

    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)
