"""TIES (Yadav et al. 2023, arXiv 2306.01708): trim small entries, elect a sign per entry, average those that agree."""

import torch

DENSITY = 0.2
COEFFICIENT = 1.0


def merge_models(model_dict, device):
    trimmed = []
    for vector in model_dict.values():
        kept = max(1, int(DENSITY * vector.numel()))
        threshold = vector.abs().flatten().kthvalue(vector.numel() - kept + 1).values
        trimmed.append(torch.where(vector.abs() >= threshold, vector, torch.zeros_like(vector)))
    stacked = torch.stack(trimmed)
    sign = torch.sign(stacked.sum(dim=0))
    agrees = (torch.sign(stacked) == sign) & (stacked != 0)
    return COEFFICIENT * (stacked * agrees).sum(dim=0) / agrees.sum(dim=0).clamp(min=1)
