"""DARE (Yu et al. 2024, arXiv 2311.03099): drop entries at random, rescale the rest, then task arithmetic."""

import torch

DROP = 0.6
COEFFICIENT = 0.6


def merge_models(model_dict, device):
    return COEFFICIENT / (1.0 - DROP) * sum(thin(vector) for vector in model_dict.values())


def thin(vector):
    """Drop entries with probability DROP."""
    return vector * (torch.rand_like(vector) < 1.0 - DROP)
