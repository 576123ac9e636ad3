"""Which process is killed in which stage at which moment: the plan of a kill suite, from a seed."""

from __future__ import annotations

import random
from typing import NamedTuple

# Every stage of the kill suite's campaign in the order in which `status.json` names them. The untrained arm's first round is
# the trained arm's, so nothing is computed in it; its boundary is one all the same.
STAGES = (
    "starting",
    *(f"trained 1 · {stage}" for stage in ("generate", "validate", "merge", "evaluate", "pairs", "dpo")),
    *(f"untrained 1 · {stage}" for stage in ("generate", "validate", "merge", "evaluate")),
    *(f"trained 2 · {stage}" for stage in ("generate", "validate", "merge", "evaluate")),
    *(f"untrained 2 · {stage}" for stage in ("generate", "validate", "merge", "evaluate")),
    *(f"finalists · {stage}" for stage in ("merge controls", "controls", "validation", "test")),
    "report",
)
DRIVER, ALONE, WORKER, SANDBOX, PROGRAM, SERVER = "driver group", "driver", "worker", "sandbox", "program", "server"


class Kill(NamedTuple):
    """`moment`: "begin" (the stage's boundary), "inside" (`share` of the stage's usual time later), or the kind of record
    whose next appearance it is. `stage`: one of STAGES, "start-up" (before the campaign says anything), or "finished" (it has
    said so, the process still runs).
    """

    victim: str
    stage: str
    moment: str
    share: float = 0.0

    @property
    def position(self) -> tuple[int, float]:
        """In the order in which a campaign meets them."""
        number = STAGES.index(self.stage) if self.stage in STAGES else -1 if self.stage == "start-up" else len(STAGES)
        return (number, {"begin": 0.0, "inside": self.share}.get(self.moment, 0.5))


def plan(kills: int, seed: int) -> list[Kill]:
    """So many kills: first one of each sort, then every boundary, then more random moments. Equal seeds give equal plans."""
    rng = random.Random(seed)

    def inside(victim: str, stage: str) -> Kill:
        return Kill(victim, stage, "inside", round(rng.uniform(0.05, 0.8), 3))

    sorts = [
        inside(DRIVER, "trained 1 · evaluate"),
        inside(WORKER, "trained 1 · dpo"),
        inside(SANDBOX, "trained 2 · validate"),
        inside(SERVER, "finalists · controls"),
        Kill(DRIVER, "trained 1 · dpo", "checkpoints"),
        inside(PROGRAM, "trained 1 · validate"),
        Kill(ALONE, "finalists · test", "openings"),
        Kill(DRIVER, "trained 1 · generate", "generated"),
    ]
    records = [
        Kill(ALONE, "trained 1 · validate", "verdicts"),
        Kill(DRIVER, "trained 1 · evaluate", "task-results"),
        Kill(DRIVER, "trained 1 · pairs", "task-results"),
        Kill(ALONE, "trained 1 · dpo", "trained"),
        Kill(DRIVER, "trained 1 · dpo", "iterations"),
        Kill(DRIVER, "trained 2 · merge", "task-results"),
        Kill(ALONE, "untrained 2 · evaluate", "scorecards"),
        Kill(DRIVER, "finalists · test", "scorecards"),
        Kill(DRIVER, "finished", "begin"),
    ]
    others = [
        inside(DRIVER, "start-up"),
        inside(ALONE, "start-up"),
        inside(WORKER, "trained 1 · generate"),
        inside(WORKER, "trained 2 · evaluate"),
        inside(SANDBOX, "trained 1 · merge"),
        inside(PROGRAM, "trained 2 · merge"),
        inside(WORKER, "finalists · validation"),
        inside(SERVER, "trained 1 · dpo"),
        inside(SANDBOX, "finalists · merge controls"),
        inside(PROGRAM, "untrained 2 · validate"),
        inside(SERVER, "trained 2 · evaluate"),
        inside(WORKER, "finalists · test"),
    ]
    randomly = [
        inside(DRIVER if number % 2 else ALONE, stage)
        for number, stage in enumerate(STAGES)
        if not stage.startswith("untrained 1")
    ]
    boundaries = [Kill(ALONE if number % 3 else DRIVER, stage, "begin") for number, stage in enumerate(STAGES)]
    rng.shuffle(boundaries)
    rng.shuffle(randomly)
    whole = [*sorts, *records, *others, *boundaries, *randomly]
    while len(whole) < kills:
        whole.append(inside(rng.choice((DRIVER, ALONE)), rng.choice(STAGES)))
    return whole[:kills]


def deal(kills: list[Kill], campaigns: int) -> list[list[Kill]]:
    """The kills spread over so many campaigns, each in the order in which it meets them."""
    ordered = sorted(kills, key=lambda kill: kill.position)
    return [ordered[number::campaigns] for number in range(campaigns)]
