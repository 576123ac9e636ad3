"""`selfdev vllm …`: the environment in which vLLM lives, and engines that are started by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

console = Console()
vllm_app = typer.Typer(no_args_is_help=True, help="vLLM engines: `engine.kind: vllm` in a campaign file.")


@vllm_app.command()
def install(
    gpu: Annotated[bool, typer.Option("--gpu/--cpu", help="vLLM for NVIDIA GPUs, or its CPU build.")] = True,
) -> None:
    """Make the environment in which vLLM lives: SELFDEV_HOME/vllm/environment. Run again: it is brought up to date.

    vLLM and current Prefect cannot share one environment (they need different versions of fastapi).
    """
    from selfdev_core.engines.vllm.environment import install as make

    python = make("gpu" if gpu else "cpu")
    console.print(f"vLLM is in {python.parent.parent}; campaigns with `engine.kind: vllm` use it", highlight=False)


@vllm_app.command()
def start(
    model: Annotated[Path, typer.Argument(help="Checkpoint folder: the seed model of the campaigns that will use it.")],
    gpus: Annotated[
        int | None,
        typer.Option(help="GPUs over which the engine spreads, one by default; 0, or where none is: the CPU.", min=0),
    ] = None,
    dtype: Annotated[
        Literal["auto", "bfloat16", "float16", "float32"], typer.Option(help="As `engine.dtype` of the campaign.")
    ] = "auto",
    name: Annotated[str, typer.Option(help="Of its socket; another one for each engine that runs at once.")] = "engine",
    gpu_memory_utilization: Annotated[
        float, typer.Option(help="Share of each GPU's memory.", min=0.01, max=1.0)
    ] = 0.85,
    kv_cache_gb: Annotated[float | None, typer.Option(help="GiB of KV cache.", min=0.01)] = None,
    max_model_len: Annotated[int | None, typer.Option(help="Longest prompt with answer, tokens.", min=16)] = None,
    python: Annotated[Path | None, typer.Option(help="Python of another vLLM environment.")] = None,
) -> None:
    """Run one engine here until Ctrl-C, for campaigns that name it in `engine.urls`: it stays warm between them.

    Where vLLM is not installed yet, that is done first.
    """
    from selfdev_core.engines.config import EngineConfig
    from selfdev_core.engines.vllm.by_hand import run_engine
    from selfdev_core.engines.vllm.environment import is_installed
    from selfdev_core.engines.vllm.slots import gpus_of
    from selfdev_core.merging.checkpoints import Checkpoint

    config = EngineConfig(
        kind="vllm",
        python=python,
        gpus=gpus,
        tensor_parallel=gpus or 1,
        dtype=dtype,
        gpu_memory_utilization=gpu_memory_utilization,
        kv_cache_gb=kv_cache_gb,
        max_model_len=max_model_len,
    )

    Checkpoint(model)  # before gigabytes are fetched for it
    if python is None and not is_installed():
        install(gpu=bool(gpus_of(config)))

    def ready(url: str, dtype: str) -> None:
        console.print(f"ready: {url}\nin a campaign file:  engine: {{kind: vllm, dtype: {dtype}, urls: ['{url}']}}")

    console.print("starting; Ctrl-C ends it", highlight=False)
    run_engine(config, model, name, ready)
