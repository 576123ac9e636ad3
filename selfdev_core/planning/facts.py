"""What a plan is computed from beside the configuration: looked up once (lookup.py), then only counted with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from selfdev_core.planning.amounts import SetSize
from selfdev_core.planning.models import ModelFacts

HOME = ""  # the campaign's own set, among the names of its targets
UNKNOWN = "the model's config.json is not known: ask the Hub, or give --shape"


class Facts(NamedTuple):
    """Models per set (seed first, home first), sizes of the sets, prompts in tokens."""

    models: Mapping[str, Sequence[ModelFacts]]
    home: SetSize
    targets: tuple[SetSize, ...]
    human: int
    methods: int
    factory_prompt: int
    question_prompt: int
