"""Merging real-shaped checkpoints: time and memory beside mergekit and beside a plain copy, and a 7B-shaped merge.

    make bench-merge              every part; some 25 minutes on two cores
    PARTS=ties make bench-merge   only this; the others' figures in the results file stay

task_arithmetic, ties   a 1.1B-shaped set beside mergekit; TIES has one turn, since mergekit takes ten minutes for it
seven-b                 a 7B-shaped set through a discovered program

Whole command lines are measured, from start to finished folder: `selfdev apply` (pre-flight, jail, validation and saving
included) and mergekit's own, by turns, on the same files. Needs 25 GB of disk below TMPDIR, 52 GB for 7B, and installs mergekit
in an environment of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import yaml

from benchmarks.checkpoints import MISTRAL_7B, TINY_LLAMA, parameters, write_model
from benchmarks.measure import conditions, write_results
from tests.mergekit.environment import VERSION, mergekit_python

RESULTS = Path(__file__).parent / "results" / "merge.json"
EXPERTS = ("one", "two", "three")
RECIPES: dict[str, dict[str, float]] = {
    "task_arithmetic": {"COEFFICIENT": 0.4},
    "ties": {"DENSITY": 0.2, "COEFFICIENT": 1.0},
}
# A program as the factory writes them: sequential over the experts, half kept, half the mean (the paper's winner).
DISCOVERED = """\
import torch

def merge_models(model_dict, device):
    vectors = list(model_dict.values())
    merged = vectors[0].clone()
    for vector in vectors[1:]:
        merged = 0.5 * merged + 0.5 * vector.mean(dim=min(1, vector.dim() - 1), keepdim=True)
    return merged
"""
_SHARD = 600 << 20
_SHARD_7B = 5 * 10**9
_SPARE = 8e9  # bytes of disk that are left alone


class Took(NamedTuple):
    """Wall seconds, and peaks over the whole process tree of two looks a second, GB = 1e9 bytes: `own` is memory of the processes
    themselves (anonymous pages), `mapped` that of files, `resident` both (proportional set size: shared pages once)."""

    seconds: float
    own: float
    resident: float
    mapped: float


def measured(command: list[str], environment: dict[str, str], log: Path) -> Took:
    """Run a command; memory is sampled twice a second, since every look at a big process takes a core's time from the command.
    Raises RuntimeError with the end of its output when it fails."""
    began = time.monotonic()
    peaks = [0.0, 0.0, 0.0]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT, cwd="/")
        done = threading.Event()
        watch = threading.Thread(target=_watch, args=(process.pid, peaks, done))
        watch.start()
        code = process.wait()
        seconds = time.monotonic() - began
        done.set()
        watch.join()
    if code:
        raise RuntimeError(f"{' '.join(command)} ended with {code}:\n{log.read_text(errors='replace')[-2000:]}")
    return Took(seconds, *peaks)


def _watch(pid: int, peaks: list[float], done: threading.Event) -> None:
    while not done.wait(0.5):
        own = resident = 0.0
        for one in _tree(pid):
            with suppress(OSError, KeyError, ValueError):
                fields = dict(
                    line.split(":") for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()[1:]
                )
                own += int(fields["Pss_Anon"].split()[0]) * 1024 / 1e9
                resident += int(fields["Pss"].split()[0]) * 1024 / 1e9
        peaks[:] = [max(peak, now) for peak, now in zip(peaks, (own, resident, resident - own), strict=True)]


def _tree(pid: int) -> list[int]:
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        return [pid, *(child.pid for child in root.children(recursive=True))]
    return []


def program(method: str) -> str:
    """A human-designed program with the recipe's constants."""
    source = (files("selfdev_core.merging.human") / f"{method}.py").read_text(encoding="utf-8")
    for name, value in RECIPES[method].items():
        source = re.sub(rf"^{name} = .*$", f"{name} = {value!r}", source, flags=re.MULTILINE)
    return source


def ours(source: str, models: Path, out: Path, scope: str, log: Path, memory_gb: float) -> Took:
    file = log.with_suffix(".py")
    file.write_text(source)
    pairs = [f"--models={name}={models / name}" for name in ("seed", *EXPERTS)]
    options = ["--scope", scope, "--seconds", "7200", "--memory-gb", str(memory_gb), "--out", str(out)]
    command = [sys.executable, "-m", "flows.cli", "apply", str(file), *pairs, *options]
    root = str(Path(__file__).resolve().parents[1])
    return measured(command, os.environ | {"PYTHONPATH": root}, log)


def mergekits(method: str, models: Path, out: Path, log: Path) -> Took:
    constants = RECIPES[method]
    own = {"weight": constants["COEFFICIENT"]} | ({"density": constants["DENSITY"]} if "DENSITY" in constants else {})
    recipe = {
        "merge_method": method,
        "base_model": str(models / "seed"),
        "models": [{"model": str(models / name), "parameters": own} for name in EXPERTS],
        "dtype": "bfloat16",
    }
    file = log.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(recipe))
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "OMP_NUM_THREADS")}
    command = [str(mergekit_python()), "-m", "mergekit.scripts.run_yaml", str(file), str(out)]
    return measured(command, environment | {"HF_HUB_OFFLINE": "1"}, log)


def copied(models: Path, out: Path) -> float:
    """Seconds to read all models and write one, with cp and cat."""
    began = time.monotonic()
    subprocess.run(["cp", "-r", str(models / "seed"), str(out)], check=True)
    for name in EXPERTS:
        with open(os.devnull, "wb") as nowhere:
            subprocess.run(
                ["cat", *map(str, sorted((models / name).glob("*.safetensors")))], stdout=nowhere, check=True
            )
    return time.monotonic() - began


def apart(one: Path, other: Path) -> float:
    """Root mean square of the difference of two merged models, in units of what the merge changed (sampled tensors).

    It is not zero, since mergekit computes in bfloat16 here, as its users have it, and programs in float32: TIES then cuts and
    elects otherwise for entries near the cut or near zero. In float32 both give the same (`make test-mergekit`)."""
    import torch

    from selfdev_core.merging.checkpoints import Checkpoint

    mine, theirs, seed = Checkpoint(one), Checkpoint(other), Checkpoint(one.parent / "models" / "seed")
    difference = change = 0.0
    for name in list(seed.shapes)[:: max(1, len(seed.shapes) // 12)]:
        a, b, s = (model.tensor(name).float() for model in (mine, theirs, seed))
        difference += float(torch.square(a - b).double().sum())
        change += float(torch.square(a - s).double().sum())
    return float((difference / change) ** 0.5)


def beside_mergekit(folder: Path, method: str, rounds: int) -> dict[str, object]:
    """`rounds` merges of ours and of mergekit's, by turns, each with a copy after it."""
    models = folder / "models"
    if not models.exists():
        write_model(models / "seed", TINY_LLAMA, 1, _SHARD)
        for number, name in enumerate(EXPERTS, 2):
            write_model(models / name, TINY_LLAMA, number, _SHARD, near=models / "seed")
    us, them, copies = [], [], []
    difference = 0.0
    for number in range(rounds):
        mine, theirs = folder / "ours", folder / "mergekits"
        for turn in ("ours", "mergekit") if number % 2 == 0 else ("mergekit", "ours"):
            log = folder / f"{turn}-{method}.log"
            if turn == "ours":
                us.append(ours(program(method), models, mine, "all", log, 16.0))
            else:
                them.append(mergekits(method, models, theirs, log))
        difference = apart(mine, theirs)
        shutil.rmtree(mine)
        shutil.rmtree(theirs)
        copies.append(copied(models, folder / "copy"))
        shutil.rmtree(folder / "copy")
        print(method, "ours", us[-1], "mergekit", them[-1], f"copy {copies[-1]:.1f} s", flush=True)
    return {
        "ours": [took._asdict() for took in us],
        "mergekit": [took._asdict() for took in them],
        "difference": difference,
        "copy_seconds": copies,
    }


def seven_b(folder: Path) -> dict[str, object]:
    """A 7B-shaped merge. One expert is whole; the other two are the same files, as hard links, for want of disk. As much is
    computed as with three, but pages of one file count once, so three real experts hold up to twice the expert's pages more:
    `upper` counts all mapped pages once per expert, which is never too little."""
    models = folder / "models"
    write_model(models / "seed", MISTRAL_7B, 1, _SHARD_7B)
    write_model(models / "one", MISTRAL_7B, 2, _SHARD_7B, near=models / "seed")
    for number, name in enumerate(EXPERTS[1:], 3):
        write_model(models / name, MISTRAL_7B, number, _SHARD_7B, near=models / "one", own_shards=0)
    took = ours(DISCOVERED, models, folder / "ours", "mlp", folder / "seven.log", 4.0)
    upper = took.own + len(EXPERTS) * took.mapped
    print(
        f"7B {took}; two of three experts are hard links of the first: with separate files at most {upper:.2f} GB",
        flush=True,
    )
    return took._asdict() | {"experts_of_one_file": len(EXPERTS), "upper": upper}


def figures_of(raw: dict[str, Any]) -> dict[str, object]:
    """`peak_memory_ratio`: of the processes' own memory, for the worse method; `ratio_to_copy_speed`: for the faster one;
    `seven_b_peak_gb`: the upper bound, see `seven_b`."""
    found: dict[str, object] = {}
    memory, copying = [], []
    for method in RECIPES:
        if method in raw:
            us, them = raw[method]["ours"], raw[method]["mergekit"]
            found[f"ratio_to_mergekit_{method}"] = round(_middle(them) / _middle(us), 2)
            memory.append(max(took["own"] for took in us) / max(took["own"] for took in them))
            copying.append(statistics.median(raw[method]["copy_seconds"]) / _middle(us))
    if memory:
        found |= {"peak_memory_ratio": round(max(memory), 2), "ratio_to_copy_speed": round(max(copying), 2)}
    if "seven-b" in raw:
        found["seven_b_peak_gb"] = round(raw["seven-b"]["upper"], 2)
    return found


def _middle(runs: list[dict[str, float]]) -> float:
    return statistics.median(one["seconds"] for one in runs)


PARTS: dict[str, Callable[[Path], dict[str, object]]] = {
    "task_arithmetic": lambda folder: beside_mergekit(folder / "1b", "task_arithmetic", 5),
    "ties": lambda folder: beside_mergekit(folder / "1b", "ties", 1),
    "seven-b": lambda folder: seven_b(folder / "7b"),
}


def main() -> None:
    wanted = os.environ.get("PARTS", ",".join(PARTS)).split(",")
    if unknown := sorted(set(wanted) - set(PARTS)):
        raise SystemExit(f"PARTS: no part is called {', '.join(unknown)}; there are {', '.join(PARTS)}")
    mergekit_python()
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    at, raw = found.get("conditions", {}), found.get("raw", {})
    with tempfile.TemporaryDirectory(prefix="selfdev-bench-merge-") as name:
        for part, measure in PARTS.items():
            if part not in wanted:
                continue
            big = part == "seven-b"
            if big:
                shutil.rmtree(Path(name) / "1b", ignore_errors=True)
            there = 8 * parameters(TINY_LLAMA) if (Path(name) / "1b").exists() else 0  # seed and experts, bf16
            _need(Path(name), 6 * parameters(MISTRAL_7B) if big else 14 * parameters(TINY_LLAMA) - there)
            before = conditions()
            raw[part] = measure(Path(name))
            shape = {"parameters": parameters(MISTRAL_7B if big else TINY_LLAMA), "experts": len(EXPERTS)}
            at[part] = before | shape | {"mergekit": VERSION, "load_after": [round(x, 2) for x in os.getloadavg()]}
            figures = figures_of(raw)
            print(write_results("merge", figures, at, raw), figures, flush=True)


def _need(folder: Path, size: float) -> None:
    free = shutil.disk_usage(folder).free
    if free < size + _SPARE:
        sys.exit(f"{folder}: {free / 1e9:.0f} GB are free, {(size + _SPARE) / 1e9:.0f} GB are needed; set TMPDIR")


if __name__ == "__main__":
    main()
