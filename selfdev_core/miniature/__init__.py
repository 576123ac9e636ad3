"""The miniature: a model family small enough to train and merge on a laptop, so the whole method runs anywhere."""
