"""Stage: preference pairs from scores."""

from __future__ import annotations

from selfdev_core.preference.pairs import choose_pairs
from selfdev_core.records import PairsManifest
from selfdev_core.stages.jobs import PairsJob, key_of
from selfdev_core.workspace import Workspace

NAME, VERSION = "pairs", 1


def pairs(job: PairsJob, workspace: Workspace) -> PairsManifest:
    """The pairs of one update; an empty set says why."""
    workspace.progress.advance()
    with workspace.counted(NAME, key_of(NAME, VERSION, job)):
        return choose_pairs(job.settings, job.prompt, job.rounds, job.seed)
