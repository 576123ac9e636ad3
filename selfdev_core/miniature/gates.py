"""What a family must show before it is accepted: measured thresholds instead of trust in a number of steps.

Small models trained from nothing vary: under some seeds experts interfere and no merge beats the better one. A family
that misses a gate is not shipped; the next seed is tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from selfdev_core.miniature.merges import TaskVectors, program_runner

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

# gate -> (least, most); accuracies and shares are fractions, gains differences of accuracies
THRESHOLDS: dict[str, tuple[float, float]] = {
    "drill accuracy": (0.85, 1.0),
    "seed accuracy": (0.15, 0.65),
    "valid programs at 1.0": (0.90, 1.0),
    "valid programs at 1.2": (0.80, 1.0),
    "distinct programs": (0.80, 1.0),
    "weaker expert's gain over the seed": (0.03, 1.0),
    "ratio of task vector norms": (1.5, 20.0),
    "merging gain": (0.05, 1.0),
    "mean program score": (0.10, 0.50),
}


class Gate(BaseModel):
    """One measured gate and the band it must lie in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    value: float
    least: float
    most: float

    @property
    def passed(self) -> bool:
        """Does the value lie in the band?"""
        return self.least <= self.value <= self.most


def judge(measured: Mapping[str, float]) -> tuple[Gate, ...]:
    """The gates of these measurements, in the order of `THRESHOLDS`.

    Raises:
        KeyError: a measurement has no threshold.
    """
    unknown = set(measured) - set(THRESHOLDS)
    if unknown:
        raise KeyError(f"no threshold for {sorted(unknown)}")
    return tuple(
        Gate(name=name, value=round(measured[name], 4), least=least, most=most)
        for name, (least, most) in THRESHOLDS.items()
        if name in measured
    )


def valid_programs(sources: Iterable[str]) -> list[bool]:
    """Which programs fulfil the contract on small probe tensors?"""
    with program_runner(_probe()) as run:
        return [run(source) is not None for source in sources]


def sample_programs(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int, temperature: float, seed: int
) -> list[str]:
    """Complete programs sampled from a model after the factory's prompt."""
    import torch

    from selfdev_core.miniature.programs import PROMPT

    ids = torch.tensor([tokenizer(PROMPT)["input_ids"]] * count)
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(seed)
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=temperature,
            top_k=0,
            max_new_tokens=128,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    return list(tokenizer.batch_decode(output, skip_special_tokens=True))


def _probe() -> TaskVectors:
    import torch

    generator = torch.Generator().manual_seed(0)
    shapes = {"model.layers.0.mlp.up_proj.weight": (12, 8), "model.layers.3.mlp.down_proj.weight": (8, 12)}
    return TaskVectors(
        {
            name: {expert: 0.02 * torch.randn(shape, generator=generator) for expert in ("alpha", "beta")}
            for name, shape in shapes.items()
        },
        4,
    )
