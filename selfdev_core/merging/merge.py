"""Merging: task vectors for the sandbox, and adding a program's result to the original seed (paper, section 3).

Every program is applied to the original seed; a merged model never becomes the next seed here. Everything streams: one
parameter is computed and read while the one before it is added to the seed, and the one before that is written. Long ones
(`_LONG`) are added and written by turns, so that memory holds one of them only.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.merging.scope import merged_names
from selfdev_core.records import Merged, Scope, Verdict
from selfdev_core.sandbox.bundle import Bundle, describe_bundle, write_bundle
from selfdev_core.sandbox.received import Refused, Run, Sink
from selfdev_core.sandbox.vectors import Sources
from selfdev_core.tensors.finite import finite
from selfdev_core.tensors.mapped import blocks
from selfdev_core.tensors.written import Behind, Buffers, Spec, raw

if TYPE_CHECKING:
    import torch

PROBE_ROWS, PROBE_COLUMNS, MAX_PROBES = 24, 40, 24
_BLOCK = 1 << 16  # entries worked on at once, which stay in the core's cache
_KEPT = 2  # merged tensors that may wait for digest and target
_LONG = 64 << 20  # bytes above which a tensor is long


def write_bundles(seed: Checkpoint, experts: dict[str, Checkpoint], scope: Scope, folder: Path) -> dict[str, Bundle]:
    """The two bundles of a model set: `full` says where every task vector in scope comes from, `probes` holds small slices
    of some.

    `full` has the largest parameters first: memory of new pages is dear, and each finds room where those before it were.
    Probes are slices of real task vectors (at most 24 × 40, never square, evenly spread over the parameters), so that
    thresholds and depth-dependent branches act on them as they act on the real thing.
    """
    names = merged_names(seed, scope)
    step = max(1, -(-len(names) // MAX_PROBES))
    while math.gcd(step, max(1, len(names) // max(1, seed.blocks))) > 1:
        step += 1  # a step that divides a block's parameters would probe one kind of matrix only
    probes: dict[str, dict[str, torch.Tensor]] = {}
    for name in names[::step]:
        base = _slice(seed.tensor(name)).float()
        probes[name] = {label: _slice(model.tensor(name)).float() - base for label, model in experts.items()}
    sources = {
        name: Sources(seed.pieces[name], {label: model.pieces[name] for label, model in experts.items()})
        for name in sorted(names, key=lambda name: -math.prod(seed.shapes[name]))
    }
    order = tuple(experts)
    return {
        "full": describe_bundle(folder / "full.json", sources, order, seed.blocks),
        "probes": write_bundle(folder / "probes.safetensors", probes, order, seed.blocks),
    }


def _slice(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dim() == 0:
        return tensor
    if tensor.dim() == 1:
        return tensor[:PROBE_COLUMNS].clone()
    leading = (slice(1),) * (tensor.dim() - 2)  # of stacked experts, say, the first
    return tensor[(*leading, slice(PROBE_ROWS), slice(PROBE_COLUMNS))].clone()


class Runner(Protocol):
    """Runs one program over every parameter of a named bundle: the sandbox, or the executor of a GPU."""

    def run(self, source: str, bundle: str, *, sink: Sink | None = None) -> Run:
        """Raises SandboxError when no process can be started, and what the sink raises."""


class Target(Protocol):
    """Takes merged tensors one by one, from a thread of its own, perhaps once more from the beginning."""

    def put(self, name: str, tensor: torch.Tensor) -> None:
        """A merged parameter in the seed's dtype and shape; its memory is used again afterwards. Raises OSError when it cannot be
        kept."""


def merge_into(target: Target | None, algorithm_id: str, source: str, seed: Checkpoint, runner: Runner) -> Merged:
    """Run a program over every parameter in scope and add the result to the seed, in the seed's dtype.

    The merged tensors go to the target; when the program fails on the real tensors, what has come there is worthless.
    `weights_sha256` covers names and bytes, in order. Raises: what the target raises; SandboxError.
    """
    adder = _Adder(seed, target)
    try:
        run = runner.run(source, "full", sink=adder)
        adder.finish()
    except Refused as fault:  # of a tensor that nothing came after
        run = Run(fault.reason, str(fault), {})
    finally:
        adder.stop()
    if run.reason != "accepted":
        verdict = Verdict(algorithm_id=algorithm_id, reason=run.reason, detail=run.detail)
        return Merged(algorithm_id=algorithm_id, verdict=verdict)
    verdict = Verdict(algorithm_id=algorithm_id, reason="accepted")
    return Merged(algorithm_id=algorithm_id, verdict=verdict, weights_sha256=adder.sha256())


class _InMemory(dict[str, "torch.Tensor"]):
    def put(self, name: str, tensor: torch.Tensor) -> None:
        self[name] = tensor.clone()


def merge(algorithm_id: str, source: str, seed: Checkpoint, runner: Runner) -> tuple[Merged, dict[str, torch.Tensor]]:
    """`merge_into` memory, for models that are small beside the machine: the record and the merged tensors (empty when the
    program failed on the real tensors)."""
    kept = _InMemory()
    record = merge_into(kept, algorithm_id, source, seed, runner)
    return record, dict(kept) if record.verdict.accepted else {}


def merged_specs(seed: Checkpoint, scope: Scope) -> dict[str, Spec]:
    """What the merged tensors will be."""
    return {name: Spec(seed.dtypes[name], seed.shapes[name]) for name in merged_names(seed, scope)}


class _Memory:
    """For tensors that go to a thread behind: in turns for short ones; for long ones, which come first, one at a time, with
    nothing left undone behind."""

    def __init__(self, count: int, behind: Behind) -> None:
        self._short, self._long = Buffers(count), Buffers(1)
        self._behind = behind

    def take(self, size: int) -> memoryview:
        """So many bytes, for the thread that passes them on."""
        if size <= _LONG:
            self._long = Buffers(1)
            return self._short.take(size)
        self._behind.drain()
        return self._long.take(size)


class _Adder:
    """A sink that adds each result to the seed and passes it on to the digest and the target, both behind the caller's back."""

    def __init__(self, seed: Checkpoint, target: Target | None) -> None:
        self._seed = seed
        self._target = target
        self._adding, self._keeping = Behind(1), Behind(_KEPT)
        self._adding.do(_one_thread)
        # one more than may be in use by those behind
        self._results, self._merged = _Memory(2, self._adding), _Memory(_KEPT + 1, self._keeping)
        self._total = hashlib.sha256()

    def begin(self) -> None:
        self._adding.do(lambda: self._keeping.do(self._begin))

    def _begin(self) -> None:
        self._total = hashlib.sha256()

    def memory(self, size: int) -> memoryview:
        return self._results.take(size)

    def put(self, name: str, tensor: torch.Tensor) -> None:
        self._adding.do(lambda: self._add(name, tensor))

    def _add(self, name: str, tensor: torch.Tensor) -> None:
        merged = _added(self._seed, name, tensor, self._merged)
        self._seed.forget(name)
        self._keeping.do(lambda: self._keep(name, merged))

    def _keep(self, name: str, merged: torch.Tensor) -> None:
        self._total.update(f"{name}:".encode())
        self._total.update(raw(merged))
        if self._target is not None:
            self._target.put(name, merged)

    def finish(self) -> None:
        self._adding.finish()
        self._keeping.finish()

    def stop(self) -> None:
        self._adding.stop()
        self._keeping.stop()

    def sha256(self) -> str:
        return self._total.hexdigest()


def _added(seed: Checkpoint, name: str, delta: torch.Tensor, memory: _Memory) -> torch.Tensor:
    """Seed + result, summed in float32 and stored in the seed's dtype. Raises Refused when that overflows."""
    import torch

    own = seed.tensor(name)
    merged = torch.frombuffer(memory.take(own.nbytes), dtype=own.dtype).view(own.shape) if own.numel() else own.clone()
    flat, added, out = own.view(-1), delta.reshape(-1), merged.view(-1)
    total = torch.empty(min(_BLOCK, own.numel()))
    for span in blocks(own.numel(), _BLOCK):
        part = out[span]
        part.copy_(total[: part.numel()].copy_(flat[span]).add_(added[span]))
        if not finite(part):
            what = f"seed + result overflows {own.dtype}" if finite(added[span]) else "returns NaN or infinity"
            raise Refused("not-finite", f"{what} (on {name})")
    return merged


def _one_thread() -> None:
    """Let torch stay in the thread that calls this: sharing a block out costs more than it gives, on a busy machine much more."""
    import torch

    torch.set_num_threads(1)
