"""DARE-TIES (Yu et al. 2024, arXiv 2311.03099, section 3.3): drop entries at random and rescale the rest as DARE does, then
elect a sign per entry and average those that agree, as TIES does.
"""

import torch

DROP = 0.6
COEFFICIENT = 1.0


def merge_models(model_dict, device):
    return COEFFICIENT / (1.0 - DROP) * elect([thin(vector) for vector in model_dict.values()])


def thin(vector):
    """Drop entries with probability DROP."""
    return vector * (torch.rand_like(vector) < 1.0 - DROP)


def elect(vectors):
    """The sign with the greater sum, entry by entry, and the mean of the entries that have it."""
    positive = sum(vectors) >= 0
    total, voters = torch.zeros_like(vectors[0]), torch.zeros_like(positive, dtype=torch.uint8)
    for vector in vectors:
        agreeing = vector * ((vector > 0) == positive)
        total += agreeing
        voters += (agreeing != 0).view(torch.uint8)
    return total / voters.clamp(min=1)
