"""Whether a sandbox refuses a harmless program. A plain run, with no sandbox round it, says which programs are harmless."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from selfdev_core.algorithm.contract import layer_of
from selfdev_core.sandbox.bundle import read_bundle
from selfdev_core.sandbox.client import Sandbox
from selfdev_core.sandbox.validate import fingerprint, validate
from tests.security.world import World

if TYPE_CHECKING:
    import torch


def plainly(source: str, world: World) -> dict[str, torch.Tensor] | None:
    """What a program gives with no sandbox round it; None when it breaks the contract."""
    import torch

    bundle, vectors = read_bundle(world.bundle.path)
    namespace: dict[str, Any] = {"__name__": "candidate"}
    found = {}
    try:
        exec(compile(source, "candidate.py", "exec"), namespace)
        function = namespace["merge_models"]
        wants_layer = "layer" in function.__code__.co_varnames[: function.__code__.co_argcount]
        with torch.no_grad():
            for name, originals in vectors.items():
                given = {expert: tensor.clone() for expert, tensor in originals.items()}
                kept = dict(given)
                layer = {"layer": layer_of(name, bundle.blocks)} if wants_layer else {}
                merged = function(given, torch.device("cpu"), **layer)
                if tuple(merged.shape) != bundle.shapes[name] or not bool(merged.float().isfinite().all()):
                    return None
                if any(not torch.equal(kept[expert], original) for expert, original in originals.items()):
                    return None
                found[name] = merged.float()
    except Exception:
        return None
    return found


def wrongly_refused(source: str, sandbox: Sandbox, world: World) -> str:
    """Empty when the sandbox accepts what a plain run accepts, with the same tensors."""
    right = plainly(source, world)
    if right is None:
        return ""
    sandbox.seconds = 20.0
    verdict = validate("a-0", source, sandbox)
    if not verdict.accepted:
        return f"{verdict.reason} {verdict.detail}\n{source}"
    if "rand" not in source and verdict.fingerprint != fingerprint(right):
        return f"other tensors\n{source}"
    return ""
