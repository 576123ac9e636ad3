"""Model Breadcrumbs (Davari & Belilovsky 2023, arXiv 2312.06795): mask outliers and small entries, then task arithmetic."""

import torch

DENSITY = 0.85
GAMMA = 0.01
COEFFICIENT = 0.6


def merge_models(model_dict, device):
    return COEFFICIENT * sum(sieve(vector) for vector in model_dict.values())


def sieve(vector):
    """Of the entries by magnitude, mask the largest share GAMMA and as many of the smallest as leave the share DENSITY."""
    size = vector.abs().flatten()
    outliers = min(int(GAMMA * size.numel()), size.numel() - int(DENSITY * size.numel()))
    small = size.numel() - int(DENSITY * size.numel()) - outliers
    return vector * (first(size, size.numel() - outliers) & ~first(size, small)).view_as(vector)


def first(size, k):
    """Mask of the k smallest; of equal ones the first."""
    if k == 0:
        return torch.zeros_like(size, dtype=torch.bool)
    cut = smallest(size, k)
    mask = size <= cut
    surplus = int(mask.count_nonzero()) - k
    if surplus:
        mask[(size == cut).nonzero().flatten()[-surplus:]] = False
    return mask


def smallest(size, k):
    """The k-th smallest of float32 numbers ≥ 0. Their upper 16 bits sort as they do, so they are counted by those first."""
    upper = size.view(torch.int32) >> 16
    so_far = torch.bincount(upper, minlength=1 << 15).cumsum(0)  # entries with these upper bits or smaller ones
    place = int((so_far < k).sum())
    inside = size[upper == place]
    return inside.kthvalue(k - int(so_far[place]) + inside.numel()).values
