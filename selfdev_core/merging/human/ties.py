"""TIES (Yadav et al. 2023, arXiv 2306.01708): trim small entries, elect a sign per entry, average those that agree."""

import torch

DENSITY = 0.2
COEFFICIENT = 1.0


def merge_models(model_dict, device):
    return COEFFICIENT * elect([trim(vector) for vector in model_dict.values()])


def trim(vector):
    """Keep the share DENSITY of entries that is largest in magnitude; of equal ones the first."""
    size = vector.abs().flatten()
    kept = max(1, int(DENSITY * size.numel()))
    cut = largest(size, kept)
    mask = size >= cut
    surplus = int(mask.count_nonzero()) - kept
    if surplus and cut > 0:
        mask[(size == cut).nonzero().flatten()[-surplus:]] = False
    return vector * mask.view_as(vector)


def largest(size, k):
    """The k-th largest of float32 numbers ≥ 0. Their upper 16 bits sort as they do, so they are counted by those first."""
    upper = size.view(torch.int32) >> 16
    so_far = torch.bincount(upper, minlength=1 << 15).flip(0).cumsum(0)  # entries with these upper bits or larger ones
    place = int((so_far < k).sum())
    inside = size[upper == (1 << 15) - 1 - place]
    return inside.kthvalue(int(so_far[place]) - k + 1).values


def elect(vectors):
    """The sign with the greater sum, entry by entry, and the mean of the entries that have it."""
    positive = sum(vectors) >= 0
    total, voters = torch.zeros_like(vectors[0]), torch.zeros_like(positive, dtype=torch.uint8)
    for vector in vectors:
        agreeing = vector * ((vector > 0) == positive)
        total += agreeing
        voters += (agreeing != 0).view(torch.uint8)
    return total / voters.clamp(min=1)
