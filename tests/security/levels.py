"""Which harms each level of the sandbox claims to prevent. The one place that says so; SECURITY.md tells it in words."""

from __future__ import annotations

from typing import get_args

from selfdev_core.records import Level
from selfdev_core.sandbox.layers import available
from tests.security.hostile import HOSTILE
from tests.security.hostile.model import Harm, Hostile

_ALL: frozenset[Harm] = frozenset(get_args(Harm))
CLAIMS: dict[Level, frozenset[Harm]] = {
    "strict": _ALL,
    "standard": _ALL,
    # A process of one's own, limits, no jail: files, sockets and other processes of the same user are in reach.
    "process": frozenset({"outlives", "lingers", "stalls", "crashes", "breaks"}),
}
LEVELS: tuple[Level, ...] = available()


def claimed(level: Level) -> list[Hostile]:
    """The programs that a level says it contains."""
    return [one for one in HOSTILE.values() if one.harm in CLAIMS[level]]
