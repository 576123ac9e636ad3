"""Task arithmetic (Ilharco et al. 2023, arXiv 2212.04089): the scaled sum of the task vectors."""

COEFFICIENT = 0.4


def merge_models(model_dict, device):
    first, *others = model_dict.values()
    total = first.clone()
    for vector in others:
        total += vector
    return total.mul_(COEFFICIENT)
