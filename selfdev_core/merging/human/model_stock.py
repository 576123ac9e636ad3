"""Model Stock (Jang et al. 2024, arXiv 2403.19522): the experts' mean, drawn towards the seed the less they agree.

The share t of the mean follows from the angle between task vectors, per tensor: t = N·cos θ / (1 + (N − 1)·cos θ). With
more than two experts cos θ is the mean over their pairs. There is nothing to tune.
"""

import torch


def merge_models(model_dict, device):
    vectors = list(model_dict.values())
    count = len(vectors)
    if count == 1:
        return vectors[0]
    cosines = []
    for i, a in enumerate(vectors):
        for b in vectors[i + 1 :]:
            cosines.append((a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-30))
    cosine = torch.stack(cosines).mean()
    below = 1.0 + (count - 1) * cosine
    if below.abs() < 1e-6:  # opposite experts: no share is better than another, so the seed stays
        return torch.zeros_like(vectors[0])
    return count * cosine / below * (sum(vectors) / count)
