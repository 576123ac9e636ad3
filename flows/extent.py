"""How far a campaign is: stage, counts, and the share of the whole. The terminal, `status.json` and the Prefect UI show it."""

from __future__ import annotations

from selfdev_core.config import CampaignConfig

# Share of an iteration's time that each stage is expected to take; only the estimate of the time left depends on it.
_WEIGHTS = {"generate": 0.06, "validate": 0.10, "merge": 0.06, "evaluate": 0.53, "pairs": 0.0, "dpo": 0.25}
_FINALISTS = 0.6  # the finalists step, in iterations
_TRANSFER = 0.4  # a transfer, in iterations
_BASELINES = {"merge controls": (0.0, 0.1), "controls": (0.1, 0.5), "validation": (0.6, 0.4)}  # when they run alone


class Extent:
    """Follows a campaign by what `Progress` is told. Not thread-safe: its owner locks."""

    def __init__(self, config: CampaignConfig) -> None:
        untrained = ("untrained",) if config.controls.untrained else ()
        self._arms = ("trained", *untrained, *config.ablation.temperature)
        self._targets = tuple(config.transfer)
        self._rounds = config.factory.iterations * len(self._arms)
        self.stage, self.done, self.total = "starting", 0, 0
        self._base, self._share, self._reached = 0.0, 0.0, 0.0

    def begin(self, stage: str, total: int) -> None:
        """A stage begins, named as `trained 1 · evaluate`; `total` items are due in it (0: unknown)."""
        self.stage, self.done, self.total = stage, 0, total
        self._base, self._share = self._place(stage)

    def advance(self, items: int) -> None:
        self.done += items

    @property
    def share(self) -> float:
        """Share of the campaign that is done, 0 to 1; it never goes back."""
        part = min(1.0, self.done / self.total) if self.total else 0.0
        self._reached = max(self._reached, self._base + part * self._share)
        return self._reached

    @property
    def words(self) -> str:
        """Stage and counts, e.g. `trained 1 · evaluate 12/64`."""
        return f"{self.stage} {min(self.done, self.total)}/{self.total}" if self.total else self.stage

    def _place(self, name: str) -> tuple[float, float]:
        """(share of the campaign done when this stage begins, share that it takes)."""
        whole = self._rounds + _FINALISTS + _TRANSFER * len(self._targets)
        who, _, stage = name.partition(" · ")
        if who == "baselines":
            return _BASELINES[stage]
        arm, _, number = who.partition(" ")
        if arm == "transfer":
            before = self._targets.index(number) if number in self._targets else 0
            return ((self._rounds + _FINALISTS + _TRANSFER * before) / whole, _TRANSFER / 4 / whole)
        if arm == "finalists" or not stage:
            return (self._rounds / whole, _FINALISTS / 3 / whole)
        done = (int(number) - 1) * len(self._arms) + self._arms.index(arm)
        stages, parts = list(_WEIGHTS), stage.split(" and ")  # `merge and evaluate`, where they go by turns
        before_stage = sum(_WEIGHTS[s] for s in stages[: stages.index(parts[0])])
        return (min(done + before_stage, self._rounds) / whole, sum(_WEIGHTS[part] for part in parts) / whole)
