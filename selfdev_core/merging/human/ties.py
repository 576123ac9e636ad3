"""TIES (Yadav et al. 2023, arXiv 2306.01708): trim small entries, elect a sign per entry, average those that agree."""

import torch

DENSITY = 0.2
COEFFICIENT = 1.0


def merge_models(model_dict, device):
    vectors = list(model_dict.values())
    return vote(vectors, [trim(vector) for vector in vectors]).mul_(COEFFICIENT)


def trim(vector):
    """Where the share DENSITY of entries stands that is largest in magnitude; of equal ones the first."""
    size = vector.abs().flatten()
    kept = max(1, int(DENSITY * size.numel()))
    cut = largest(size, kept)
    mask = size >= cut
    surplus = int(mask.count_nonzero()) - kept
    if surplus and cut > 0:
        mask[(size == cut).nonzero().flatten()[-surplus:]] = False
    return mask.view_as(vector)


def largest(size, k):
    """The k-th largest of float32 numbers ≥ 0. Their upper 16 bits sort as they do, so they are counted by those first."""
    upper = size.view(torch.int16)[1::2]
    so_far = torch.bincount(upper, minlength=1 << 15).flip(0).cumsum(0)  # entries with these upper bits or larger ones
    place = int((so_far < k).sum())
    inside = size[upper == (1 << 15) - 1 - place]
    return inside.kthvalue(int(so_far[place]) - k + 1).values


def vote(vectors, masks):
    """The sign with the greater sum of what is kept, entry by entry, and the mean of the kept entries that have it."""
    total, part = torch.zeros_like(vectors[0]), torch.empty_like(vectors[0])
    for vector, mask in zip(vectors, masks, strict=True):
        total += part.copy_(vector).masked_fill_(~mask, 0.0)
    positive, voters = total >= 0, torch.zeros_like(masks[0], dtype=torch.uint8)
    total.zero_()
    for vector, mask in zip(vectors, masks, strict=True):
        agreeing = mask & ((vector > 0) == positive) & (vector != 0)
        total += part.copy_(vector).masked_fill_(~agreeing, 0.0)
        voters += agreeing.view(torch.uint8)
    return total.div_(voters.clamp_(min=1))
