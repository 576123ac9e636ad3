"""The hostile programs of the escape suite, by what they attack.

Any sandbox that runs `merge_models(model_dict, device)` can be tried with them: give `examine.examine` a function that
runs a source and says what came out.
"""

from __future__ import annotations

from tests.security.hostile.bombs import BOMBS
from tests.security.hostile.deadlines import DEADLINES
from tests.security.hostile.endings import ENDINGS
from tests.security.hostile.mischief import MISCHIEF
from tests.security.hostile.model import Harm, Hostile
from tests.security.hostile.powers import POWERS
from tests.security.hostile.processes import PROCESSES
from tests.security.hostile.reads import READS
from tests.security.hostile.results import RESULTS
from tests.security.hostile.talks import TALKS
from tests.security.hostile.tensors import TENSORS
from tests.security.hostile.texts import TEXTS
from tests.security.hostile.writes import WRITES

CATEGORIES: dict[str, tuple[Hostile, ...]] = {
    "reads": READS,
    "writes": WRITES,
    "talks": TALKS,
    "processes": PROCESSES,
    "powers": POWERS,
    "bombs": BOMBS,
    "deadlines": DEADLINES,
    "endings": ENDINGS,
    "results": RESULTS,
    "tensors": TENSORS,
    "mischief": MISCHIEF,
    "texts": TEXTS,
}
HOSTILE: dict[str, Hostile] = {one.name: one for programs in CATEGORIES.values() for one in programs}

__all__ = ["CATEGORIES", "HOSTILE", "Harm", "Hostile"]
