"""Linear (model soups: Wortsman et al. 2022, arXiv 2203.05482): the weighted mean of the experts and the seed.

Each expert weighs 1; the seed weighs SEED_WEIGHT: 0 leaves it out of the mean, 1 makes it one of the models.
"""

SEED_WEIGHT = 0.0


def merge_models(model_dict, device):
    return sum(model_dict.values()) / (len(model_dict) + SEED_WEIGHT)
