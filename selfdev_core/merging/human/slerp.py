"""SLERP (Shoemake 1985) of the task vectors: along the great circle from one to the other, so that lengths are kept.

T is the share of the second expert. Further experts join one after the other, the i-th with share 2T/i, so that T = 0.5
gives each the same share. (On whole weights, which a program is not given, siblings are so nearly parallel that SLERP is
their mean.)
"""

import torch

T = 0.5
COEFFICIENT = 1.0


def merge_models(model_dict, device):
    first, *others = model_dict.values()
    for i, vector in enumerate(others, start=2):
        first = slerp(2.0 * T / i, first, vector)
    return COEFFICIENT * first


def slerp(t, a, b):
    cosine = (a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-30)
    angle = torch.acos(cosine.clamp(-1.0, 1.0))
    if angle.sin() < 1e-6:  # one direction, or opposite ones: there is no circle to follow
        return torch.lerp(a, b, t)
    return (torch.sin((1.0 - t) * angle) * a + torch.sin(t * angle) * b) / angle.sin()
