"""What a plan is computed from beside the configuration: looked up once (lookup.py), then only counted with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from selfdev_core.planning.amounts import SetSize
from selfdev_core.planning.lines import Amount, total
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

    @property
    def distinct(self) -> list[ModelFacts]:
        """Each model once, whatever number of sets it is in."""
        return list({one.name: one for models in self.models.values() for one in models}.values())

    @property
    def downloads(self) -> Amount:
        """Bytes of all models that are not on this machine yet."""
        return total(one.amount(one.download) for one in self.distinct)
