"""Wall time and memory of one program on a warm worker, beside a fresh interpreter that imports torch for each program."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from selfdev_core.algorithm.contract import layer_of
from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.merging.merge import write_bundles
from selfdev_core.miniature.families import family_card, family_folder
from selfdev_core.records import Level, Scope
from selfdev_core.sandbox.bundle import Bundle, read_bundle
from selfdev_core.sandbox.client import Sandbox
from selfdev_core.sandbox.start import ENVIRONMENT
from tests.security.census import descendants

FAMILY = "transfer"
PROGRAM = """\
import torch

def merge_models(model_dict, device, layer):
    a, b = model_dict.values()
    return 0.6 * a + (0.4 + 0.1 * layer.index / layer.count) * b
"""
SLEEPER = PROGRAM.replace(
    "    return",
    "    if layer.name == LAST:\n        torch.importlib.import_module('time').sleep(SECONDS)\n    return",
)
# What the peers do: one interpreter per program, torch imported anew, the result in a file.
_FRESH = """\
import sys
import torch
from safetensors.torch import save_file
from selfdev_core.algorithm.contract import layer_of
from selfdev_core.sandbox.bundle import read_bundle
from pathlib import Path
torch.set_num_threads(1)
bundle, vectors = read_bundle(Path(sys.argv[1]))
namespace = {}
exec(compile(open(sys.argv[2]).read(), "candidate.py", "exec"), namespace)
with torch.no_grad():
    merged = {
        name: namespace["merge_models"](experts, torch.device("cpu"), layer=layer_of(name, bundle.blocks)).contiguous()
        for name, experts in vectors.items()
    }
save_file(merged, sys.argv[3])
"""
_CHILDREN, _SLEEP = 4, 2.0
_ROOT = Path(__file__).resolve().parents[1]


class Cost(NamedTuple):
    """Medians in milliseconds. `own_ms` is the program's own compute; `overhead_ms` and `ratio` are without it."""

    own_ms: float
    warm_ms: float
    fresh_ms: float
    overhead_ms: float
    overhead_ms_p90: float
    ratio: float


@contextmanager
def _warm(level: Level) -> Iterator[tuple[Sandbox, Bundle, Path]]:
    """A sandbox of this level over the miniature's own tensors, all of them."""
    folder = family_folder(FAMILY)
    card = family_card(FAMILY)
    with tempfile.TemporaryDirectory(prefix="selfdev-bench-") as name:
        experts = {expert: Checkpoint(folder / expert) for expert in sorted(card.skills) if expert != "seed"}
        scope: Scope = "all" if card.scope == "all" else "mlp"
        bundles = write_bundles(Checkpoint(folder / "seed"), experts, scope, Path(name))
        with Sandbox(bundles, 60.0, 1.0, level=level) as sandbox:
            assert sandbox.run(PROGRAM, "full").reason == "accepted"
            yield sandbox, bundles["full"], Path(name)


def overhead(level: Level, runs: int, fresh_runs: int) -> Cost:
    """Warm and fresh runs by turns, so that both meet the same machine."""
    with _warm(level) as (sandbox, bundle, folder):
        source, result = folder / "program.py", folder / "result.safetensors"
        source.write_text(PROGRAM)
        fresh_command = [sys.executable, "-c", _FRESH, str(bundle.path), str(source), str(result)]
        own_work = _own_work(bundle)
        own = [_milliseconds(own_work) for _ in range(max(10, runs // 10))]
        warm, fresh = [], []
        for number in range(runs):
            warm.append(_milliseconds(lambda: sandbox.run(PROGRAM, "full")))
            if number % max(1, runs // fresh_runs) == 0:
                fresh.append(
                    _milliseconds(lambda: subprocess.run(fresh_command, check=True, env=ENVIRONMENT, cwd=_ROOT))
                )
    own_ms, warm_ms, fresh_ms = (statistics.median(times) for times in (own, warm, fresh))
    ninth = statistics.quantiles(warm, n=10)[-1] - own_ms
    return Cost(own_ms, warm_ms, fresh_ms, warm_ms - own_ms, ninth, (fresh_ms - own_ms) / (warm_ms - own_ms))


def _own_work(bundle: Bundle) -> Callable[[], None]:
    """The program's own compute, in this process: its merges and nothing else."""
    import torch

    _, vectors = read_bundle(bundle.path)
    vectors = {name: {expert: tensor.clone() for expert, tensor in of.items()} for name, of in vectors.items()}
    namespace: dict[str, Callable[..., object]] = {}
    exec(compile(PROGRAM, "candidate.py", "exec"), namespace)

    def work() -> None:
        with torch.no_grad():
            for name, experts in vectors.items():
                namespace["merge_models"](experts, torch.device("cpu"), layer=layer_of(name, bundle.blocks))

    return work


def _milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def memory_per_child(level: Level) -> float | None:
    """Private megabytes of a concurrent program beyond the tensor it has in hand, mean over `_CHILDREN` at once.

    None where nobody may look into a program's process (an ordinary user may not: it is not dumpable).
    """
    with _warm(level) as (sandbox, bundle, _):
        last = list(bundle.shapes)[-1]
        source = f"LAST, SECONDS = {last!r}, {_SLEEP}\n{SLEEPER}"
        before = descendants()
        threads = [threading.Thread(target=sandbox.run, args=(source, "full")) for _ in range(_CHILDREN)]
        for thread in threads:
            thread.start()
        time.sleep(_SLEEP / 2)
        try:
            private = [_private_bytes(pid) for pid in descendants() - before]
        except PermissionError:
            private = []
        for thread in threads:
            thread.join()
    if not private:
        return None
    assert len(private) == _CHILDREN, private
    size = 4
    for extent in bundle.shapes[last]:
        size *= extent
    return (statistics.mean(private) - size) / 1e6


def _private_bytes(pid: int) -> int:
    fields = dict(line.split(":") for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return sum(int(fields[name].split()[0]) * 1024 for name in ("Private_Clean", "Private_Dirty"))
