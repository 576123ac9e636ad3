"""No harmless program is refused: the miniature's grammar, every human-designed algorithm.

Some programs of the grammar break the contract by themselves (a division by zero, say); a plain run in this process,
with no sandbox round it, says which.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from selfdev_core.config import ControlsConfig
from selfdev_core.merging.human import human_algorithms
from selfdev_core.miniature.programs import sample_program
from selfdev_core.records import Level
from selfdev_core.sandbox.client import Sandbox
from tests.security.examine import Setting
from tests.security.harmless import plainly, wrongly_refused
from tests.security.levels import LEVELS
from tests.security.world import World

Jail = Callable[[Level], tuple[Sandbox, Setting]]


@pytest.mark.parametrize(
    ("level", "programs"),
    [(LEVELS[0], 300), *(pytest.param(level, 5000, marks=pytest.mark.slow) for level in LEVELS)],
)
def test_no_program_of_the_grammar_is_wrongly_refused(level: Level, programs: int, jail: Jail, world: World) -> None:
    sandbox, _ = jail(level)
    rng = random.Random(5)
    sources = [sample_program(rng) for _ in range(programs)]
    assert sum(plainly(source, world) is not None for source in sources[:100]) > 90
    refused = [fault for source in sources if (fault := wrongly_refused(source, sandbox, world))]
    assert not refused, refused[:3]


@pytest.mark.parametrize(
    "level", [level if level == LEVELS[0] else pytest.param(level, marks=pytest.mark.slow) for level in LEVELS]
)
def test_no_human_designed_algorithm_is_refused(level: Level, jail: Jail, world: World) -> None:
    sandbox, _ = jail(level)
    algorithms = human_algorithms(ControlsConfig())
    assert len(algorithms) >= 3
    for algorithm in algorithms:
        assert plainly(algorithm.source, world) is not None, algorithm.label
        assert not wrongly_refused(algorithm.source, sandbox, world), algorithm.label
