"""The training loop of the miniature: small steps of packed rows, with the mixture steered by a callback."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from selfdev_core.miniature.documents import IGNORED, Reader
from selfdev_core.miniature.optimizer import Muon

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM

_BETAS, _CLIP = (0.9, 0.98), 1.0
_WARM_UP = 20

Shares = Mapping[str, float]


def train(
    model: LlamaForCausalLM,
    reader: Reader,
    *,
    steps: int,
    learning_rate: float,
    shares: Callable[[int], Shares],
    final: float = 0.05,
    scope: str = "all",
    muon: bool = True,
    enough: Callable[[int], bool] = lambda step: False,
) -> None:
    """Train in place.

    Args:
        steps: length of the run; the rate warms up, then falls linearly to `final` × `learning_rate`.
        learning_rate: of Muon for the matrices and of AdamW for the rest; of AdamW for everything without `muon`.
        shares: the mixture (shares of tokens by kind of document) of a step; called once before each step.
        scope: "all", or "mlp" to train the feed-forward matrices only.
        enough: asked before each step; training ends when it says yes.
    """
    import torch

    chosen = {name: weight for name, weight in model.named_parameters() if scope == "all" or f".{scope}." in name}
    model.requires_grad_(False)
    for weight in chosen.values():
        weight.requires_grad_(True)
    matrices = [weight for name, weight in chosen.items() if muon and weight.dim() == 2 and "embed" not in name]
    others = [weight for weight in chosen.values() if not any(weight is matrix for matrix in matrices)]
    spectral = Muon(matrices)
    adam = torch.optim.AdamW(others, betas=_BETAS, weight_decay=0.0, fused=True) if others else None
    model.train()
    for step in range(steps):
        if enough(step):
            break
        warm = min(1.0, (step + 1) / _WARM_UP)
        rate = learning_rate * warm * (1 - (1 - final) * step / max(1, steps - 1))
        batch = reader.batch(shares(step))
        model.zero_grad()
        _loss(model, batch.ids, batch.labels).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(list(chosen.values()), _CLIP)
        spectral.step(rate)
        if adam is not None:
            adam.param_groups[0]["lr"] = rate
            adam.step()
    model.zero_grad()
    model.requires_grad_(True)
    model.eval()


def _loss(model: LlamaForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over the labelled tokens; the vocabulary projection is computed for those only."""
    import torch

    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    wanted = labels[:, 1:] != IGNORED
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[wanted]), labels[:, 1:][wanted])
