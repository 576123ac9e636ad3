"""Merging: task vectors for the sandbox, and adding a program's result to the original seed (paper, section 3).

Every program is applied to the original seed; a merged model never becomes the next seed here.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.merging.scope import in_scope
from selfdev_core.records import Merged, Scope, Verdict
from selfdev_core.sandbox.bundle import Bundle, write_bundle
from selfdev_core.sandbox.received import Run

if TYPE_CHECKING:
    import torch

PROBE_ROWS, PROBE_COLUMNS, MAX_PROBES = 24, 40, 24


def write_bundles(seed: Checkpoint, experts: dict[str, Checkpoint], scope: Scope, folder: Path) -> dict[str, Bundle]:
    """The two bundles of a model set: `full` with every task vector in scope, `probes` with small slices of some.

    Probes are slices of real task vectors (at most 24 × 40, never square, evenly spread over the parameters), so that
    thresholds and depth-dependent branches act on them as they act on the real thing.
    """

    names = [
        name for name in seed.shapes if in_scope(name, scope) and seed.dtypes[name] in ("BF16", "F16", "F32", "F64")
    ]
    vectors: dict[str, dict[str, torch.Tensor]] = {}
    for name in names:
        base = seed.tensor(name).float()
        vectors[name] = {label: model.tensor(name).float() - base for label, model in experts.items()}
    step = max(1, -(-len(names) // MAX_PROBES))
    while math.gcd(step, max(1, len(names) // max(1, seed.blocks))) > 1:
        step += 1  # a step that divides a block's parameters would probe one kind of matrix only
    probes = {
        name: {label: _slice(tensor) for label, tensor in by_expert.items()}
        for name, by_expert in list(vectors.items())[::step]
    }
    order = tuple(experts)
    return {
        "full": write_bundle(folder / "full.safetensors", vectors, order, seed.blocks),
        "probes": write_bundle(folder / "probes.safetensors", probes, order, seed.blocks),
    }


def _slice(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dim() == 0:
        return tensor
    if tensor.dim() == 1:
        return tensor[:PROBE_COLUMNS].clone()
    return tensor[:PROBE_ROWS, :PROBE_COLUMNS].clone()


class Runner(Protocol):
    """Runs one program over every parameter of a named bundle: the sandbox, or the executor of a GPU."""

    def run(self, source: str, bundle: str) -> Run:
        """Raises SandboxError when no process can be started."""


def merge(algorithm_id: str, source: str, seed: Checkpoint, runner: Runner) -> tuple[Merged, dict[str, torch.Tensor]]:
    """Run a program over every parameter in scope and add the result to the seed, in the seed's dtype.

    Returns the record and the merged tensors (empty when the program failed on the real tensors).
    """
    import torch

    run = runner.run(source, "full")
    if run.reason != "accepted":
        verdict = Verdict(algorithm_id=algorithm_id, reason=run.reason, detail=run.detail)
        return Merged(algorithm_id=algorithm_id, verdict=verdict), {}
    merged: dict[str, torch.Tensor] = {}
    total = hashlib.sha256()
    for name, delta in run.tensors.items():
        own = seed.tensor(name)
        tensor = (own.float() + delta).to(own.dtype)
        if not bool(torch.isfinite(tensor.float()).all()):
            verdict = Verdict(
                algorithm_id=algorithm_id,
                reason="not-finite",
                detail=f"seed + result overflows {own.dtype} (on {name})",
            )
            return Merged(algorithm_id=algorithm_id, verdict=verdict), {}
        merged[name] = tensor
        total.update(f"{name}:".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    verdict = Verdict(algorithm_id=algorithm_id, reason="accepted")
    return Merged(algorithm_id=algorithm_id, verdict=verdict, weights_sha256=total.hexdigest()), merged
