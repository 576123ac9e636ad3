"""Validation of one program: what its text says, then runs on the probes. One verdict, one named reason, some notes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from selfdev_core.algorithm.contract import check_source
from selfdev_core.records import Verdict
from selfdev_core.sandbox.client import Sandbox
from selfdev_core.sandbox.flags import flags_of, same

if TYPE_CHECKING:
    import torch

DIGITS, PROJECTIONS = 3, 2


def validate(algorithm_id: str, source: str, sandbox: Sandbox) -> Verdict:
    """Accepted with a behavioural fingerprint, or refused with the first reason found."""
    refusal = check_source(source)
    if refusal is not None:
        return Verdict(algorithm_id=algorithm_id, reason=refusal.reason, detail=refusal.detail)
    run = sandbox.run(source, "probes")
    if run.reason != "accepted":
        return Verdict(algorithm_id=algorithm_id, reason=run.reason, detail=run.detail)
    again = sandbox.run(source, "probes")
    if again.reason != "accepted":
        return Verdict(algorithm_id=algorithm_id, reason=again.reason, detail=again.detail)
    if not same(run.tensors, again.tensors):
        detail = "two runs on the same tensors with the same seeds differ"
        return Verdict(algorithm_id=algorithm_id, reason="not-deterministic", detail=detail)
    flags = flags_of(source, run.tensors, sandbox)
    return Verdict(algorithm_id=algorithm_id, reason="accepted", fingerprint=fingerprint(run.tensors), flags=flags)


def fingerprint(tensors: dict[str, torch.Tensor]) -> str:
    """16 hex digits, equal for programs whose results on the probes agree to about three digits.

    Each tensor is reduced to its root mean square and to `PROJECTIONS` fixed random projections in units of it, rounded
    to `DIGITS` digits. A few numbers, not every entry: float noise then almost never falls across a rounding boundary.
    """
    import numpy as np

    total = hashlib.sha256()
    directions = np.random.default_rng(0)
    for name, tensor in tensors.items():
        values = tensor.double().flatten().numpy()
        rms = float(np.sqrt(np.mean(values**2))) if values.size else 0.0
        projected = directions.standard_normal((PROJECTIONS, values.size)) @ values
        units = [round(float(p) / (rms * values.size**0.5), DIGITS) + 0.0 if rms else 0.0 for p in projected]
        total.update(f"{name}:{rms:.{DIGITS - 1}e}:{units}".encode())
    return total.hexdigest()[:16]
