"""Weights swapped in a running vLLM engine, against a saved model and an engine started with it.

make bench-vllm              twelve human-designed merges of the miniature, 256 questions each; ten minutes on two cores
SWAPS=20 make bench-vllm

`swap_answers_equal`: of all answers after a swap, the share equal to those of a fresh engine that loaded the same merged model
from a folder. `swap_ratio`: seconds from the program (merge included) to its first graded answer by way of a folder and a fresh
engine, over the same by a swap; the median of each.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from benchmarks.measure import conditions, write_results
from selfdev_core.algorithm.canonical import algorithm_id
from selfdev_core.config import ControlsConfig
from selfdev_core.engines.config import EngineConfig
from selfdev_core.engines.vllm.engine import VllmEngine
from selfdev_core.evaluation.graders.number import grade
from selfdev_core.merging.checkpoints import Checkpoint
from selfdev_core.merging.human import human_algorithms
from selfdev_core.merging.merge import merge, write_bundles
from selfdev_core.merging.saved import save_merged
from selfdev_core.miniature.families import family_card, family_folder
from selfdev_core.miniature.problems import questions
from selfdev_core.records import Scope
from selfdev_core.sandbox import layers
from selfdev_core.sandbox.client import Sandbox

_FAMILY, _QUESTIONS, _TOKENS = "arithmetic", 256, 36


def main() -> None:
    from safetensors.torch import save_file

    console, swaps = Console(), int(os.environ.get("SWAPS", "12"))
    config = EngineConfig(
        kind="vllm", python=Path(os.environ["VLLM_PYTHON"]), gpus=0, dtype="bfloat16", kv_cache_gb=0.25
    )
    before = conditions() | {"questions": _QUESTIONS, "vllm": _version(config), "dtype": config.dtype, "device": "cpu"}
    root = family_folder(_FAMILY)
    seed = Checkpoint(root / "seed")
    experts = {name: Checkpoint(root / name) for name in ("alpha", "beta")}
    asked = questions(_FAMILY, "validation", _QUESTIONS)
    prompts = [f"Q: {one.question}\nA:" for one in asked]
    sources = [one.source for one in human_algorithms(ControlsConfig())]
    picked = sources[:: max(1, len(sources) // swaps)][:swaps]
    raw: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch_name, _home(Path(scratch_name)):
        scratch = Path(scratch_name)
        bundles = write_bundles(seed, experts, cast(Scope, family_card(_FAMILY).scope), scratch)
        running = VllmEngine(config, scratch, console.print, console.print)
        running.answer(seed.folder, None, prompts[:1], max_new_tokens=_TOKENS, batch_size=1)
        with Sandbox(bundles, 60.0, 4.0, level=layers.grant(None)) as sandbox:
            for source in picked:
                name = algorithm_id(source)

                def ask(engine: VllmEngine, folder: Path, weights: Path | None, count: int) -> list[str]:
                    given = engine.answer(folder, weights, prompts[:count], max_new_tokens=_TOKENS, batch_size=count)
                    return [one.text for one in given]

                began = time.monotonic()
                _, tensors = merge(name, source, seed, sandbox)
                weights = scratch / f"{name}.safetensors"
                save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, weights)
                grade(ask(running, seed.folder, weights, 1)[0], asked[0].answer)
                by_swap = time.monotonic() - began
                swapped = ask(running, seed.folder, weights, _QUESTIONS)

                began = time.monotonic()
                _, tensors = merge(name, source, seed, sandbox)
                saved = scratch / name
                save_merged(seed, tensors, saved)
                fresh = VllmEngine(config, scratch, console.print, console.print)
                grade(ask(fresh, saved, None, 1)[0], asked[0].answer)
                by_start = time.monotonic() - began
                expected = ask(fresh, saved, None, _QUESTIONS)
                fresh.close()
                equal = sum(one == other for one, other in zip(swapped, expected, strict=True))
                right = sum(
                    grade(text, one.answer)["strict"] == "right" for text, one in zip(swapped, asked, strict=True)
                )
                raw.append(
                    {"program": name, "equal": equal, "right": right, "by_swap_s": by_swap, "by_start_s": by_start}
                )
                console.print(
                    f"{name}: {equal} of {_QUESTIONS} answers equal, {right} right; first graded answer after "
                    f"{by_swap:.2f} s by a swap, {by_start:.1f} s by a start",
                    highlight=False,
                )
        running.close()
    swap_s, start_s = (statistics.median(one[way] for one in raw) for way in ("by_swap_s", "by_start_s"))
    figures: dict[str, object] = {
        "swap_answers_equal": sum(one["equal"] for one in raw) / (_QUESTIONS * len(raw)),
        "swaps": len(raw),
        "swap_ratio": round(start_s / swap_s, 1),
        "swap_seconds": round(swap_s, 3),
        "start_seconds": round(start_s, 1),
    }
    console.print(figures, "wrote", write_results("vllm", figures, before, raw))


def _version(config: EngineConfig) -> str:
    from selfdev_core.engines.vllm.environment import version_of

    return version_of(config)


@contextmanager
def _home(folder: Path) -> Iterator[None]:
    """Logs and locks of the engines go to a home of their own."""
    os.environ["SELFDEV_HOME"] = str(folder / "home")
    yield


if __name__ == "__main__":
    main()
