"""The section `engine` of the configuration: what runs the models that write programs and answer questions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from selfdev_core.section import Section

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def _on_this_machine(url: str) -> str:
    """An engine takes weights as paths and runs commands of ours, so it must be on this machine, and nowhere else seen."""
    try:
        parts = urlsplit(url)
        good = (
            parts.path.startswith("/")
            if parts.scheme == "unix"
            else parts.scheme == "http" and parts.hostname in LOOPBACK and parts.port is not None
        )
    except ValueError:
        good = False
    if not good or parts.username or parts.query or parts.fragment:
        raise ValueError(
            f"{url!r} is no engine on this machine; give unix:///path/to/socket (`selfdev vllm start` prints it) or "
            "http://127.0.0.1:PORT"
        )
    return url


EngineUrl = Annotated[str, AfterValidator(_on_this_machine)]


class EngineConfig(Section):
    """What runs the models: transformers in worker processes, or vLLM engines, in which weights are swapped in place."""

    kind: Literal["transformers", "vllm"] = Field(
        "transformers",
        description="transformers: in `resources.workers` processes, one thread each; the models go to a GPU where there is "
        "one. vllm: processes of their own from an environment of their own (`selfdev vllm install`).",
    )
    python: Path | None = Field(
        None, description="Python of the vLLM environment; by default the one that `selfdev vllm install` makes."
    )
    urls: tuple[EngineUrl, ...] = Field(
        (),
        description="vLLM engines that run already (`selfdev vllm start`), instead of engines of this campaign's own.",
    )
    gpus: int | None = Field(
        None,
        ge=0,
        le=64,
        description="GPUs for vLLM; one engine for each `tensor_parallel` of them. 0: `resources.workers` engines on the CPU. By "
        "default all that this machine has, and the CPU where it has fewer than `tensor_parallel`.",
    )
    tensor_parallel: int = Field(
        1, ge=1, le=64, description="GPUs (on the CPU: processes) over which one engine spreads."
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto",
        description="In which vLLM computes. auto: bfloat16, and float32 on the CPU, many of which are slow in anything else. "
        "Part of every key: another dtype may give other answers.",
    )
    gpu_memory_utilization: float = Field(
        0.85,
        gt=0.0,
        le=1.0,
        description="Share of each GPU's memory that an engine takes, weights and KV cache together.",
    )
    kv_cache_gb: float | None = Field(
        None,
        gt=0.0,
        description="GiB of KV cache per engine; by default what is left of its share of a GPU, and 1 on the CPU.",
    )
    max_model_len: int | None = Field(
        None, ge=16, description="Longest prompt with its answer, tokens; by default what the model can do."
    )
    end_for_training: bool = Field(
        False,
        description="End the engines before DPO and start them again after it: for a GPU that cannot hold both at once.",
    )
    start_seconds: float = Field(
        600.0, gt=0.0, description="An engine that is not ready after so long is taken for dead."
    )
    answer_seconds: float = Field(
        3600.0,
        gt=0.0,
        description="An engine that has not answered a block of questions after so long is taken for dead.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = sorted(self.model_fields_set - {"kind"})
        if self.kind == "transformers" and given and self != EngineConfig():
            raise ValueError(f"{', '.join(given)}: only for kind: vllm")
        if self.urls and self.python:
            raise ValueError("give python, or urls of engines that run already; not both")
        if self.gpus and self.gpus % self.tensor_parallel:
            raise ValueError(
                f"gpus: {self.gpus} GPUs cannot be shared out to engines of {self.tensor_parallel} each (tensor_parallel)"
            )
        return self

    @property
    def no_gpu(self) -> bool:
        """Whether vLLM is told to use no GPU; it may use none for want of one, too."""
        return self.kind == "vllm" and self.gpus == 0 and not self.urls

    @property
    def key(self) -> str:
        """What a campaign's content holds of this section: whatever may change an answer. Empty for transformers. What keys of
        answers hold, with the dtype that is computed in: `choose.key_of`."""
        return "" if self.kind == "transformers" else f"{self.kind} {self.dtype}"
