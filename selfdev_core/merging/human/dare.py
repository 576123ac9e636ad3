"""DARE (Yu et al. 2024, arXiv 2311.03099): drop entries at random, rescale the rest, then task arithmetic."""

import torch

DROP = 0.6
COEFFICIENT = 0.6


def merge_models(model_dict, device):
    merged = 0.0
    for vector in model_dict.values():
        kept = torch.rand_like(vector) >= DROP
        merged = merged + vector * kept / (1.0 - DROP)
    return COEFFICIENT * merged
