"""DELLA (Deep et al. 2024, arXiv 2406.11617): drop small entries more often than large ones, rescale the rest, elect a sign per
entry and average those that agree.
"""

import torch

DENSITY = 0.4
EPSILON = 0.1
RESCALE = 1.0
COEFFICIENT = 1.0


def merge_models(model_dict, device):
    return COEFFICIENT * elect([sample(vector) for vector in model_dict.values()])


def sample(vector):
    """MagPrune: in each row, keep entries with a probability that rises with their rank by magnitude, from DENSITY − EPSILON
    to DENSITY + EPSILON; then divide each by its own probability (by 1 with RESCALE = 0).
    """
    rows = vector.reshape(-1, vector.shape[-1]) if vector.dim() > 1 else vector.reshape(1, -1)
    order = rows.abs().argsort(dim=1, stable=True)
    places = torch.arange(rows.shape[1], device=rows.device).expand_as(order)
    ranks = torch.empty_like(order).scatter_(1, order, places).to(rows.dtype)
    probability = DENSITY - EPSILON + ranks / max(1, rows.shape[1] - 1) * 2 * EPSILON
    return (rows * (torch.rand_like(rows) < probability) / probability**RESCALE).view_as(vector)


def elect(vectors):
    """The sign with the greater sum, entry by entry, and the mean of the entries that have it."""
    positive = sum(vectors) >= 0
    total, voters = torch.zeros_like(vectors[0]), torch.zeros_like(positive, dtype=torch.uint8)
    for vector in vectors:
        agreeing = vector * ((vector > 0) == positive)
        total += agreeing
        voters += (agreeing != 0).view(torch.uint8)
    return total / voters.clamp(min=1)
