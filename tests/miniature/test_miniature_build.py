"""A build from nothing: it names the gate it missed, tries the next seed, and leaves a whole family or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from selfdev_core.miniature import gates, measure
from selfdev_core.miniature.build import build_family, build_until_passes
from selfdev_core.miniature.families import FamilyCard
from selfdev_core.miniature.gates import judge
from selfdev_core.miniature.recipe import RECIPES

TINY = RECIPES["arithmetic"].model_copy(
    update={
        "base_steps": 2,
        "code_steps": 2,
        "top_up_steps": 1,
        "experts": {
            name: expert.model_copy(update={"steps": 1}) for name, expert in RECIPES["arithmetic"].experts.items()
        },
    }
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, and short measurements: it is what follows from them that is tested here."""
    torch.set_num_threads(1)
    for name, value in (
        ("_PROGRAMS", 2),
        ("_SAMPLED", 16),
        ("_DRILLS", 16),
        ("_VALIDATION_QUESTIONS", 16),
        ("_SEARCH_QUESTIONS", 16),
    ):
        monkeypatch.setattr(measure, name, value)


def test_an_untrained_family_is_refused_by_name_and_the_next_seed_tried(tmp_path: Path) -> None:
    stages: list[tuple[str, float]] = []
    outcomes = build_until_passes(
        "arithmetic", tmp_path / "family", 7, 2, lambda stage, share: stages.append((stage, share)), TINY
    )
    assert [outcome.seed for outcome in outcomes] == [7, 8]
    for outcome in outcomes:
        assert not outcome.passed
        assert {"drill accuracy", "seed accuracy", "valid programs at 1.0"} <= set(outcome.failed)
    assert any(stage.startswith("seed 7 missed: drill accuracy") for stage, _ in stages)
    assert all(0 <= share <= 1 for _, share in stages)
    assert not list(tmp_path.iterdir())


def test_a_family_that_passes_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "THRESHOLDS", dict.fromkeys(gates.THRESHOLDS, (-1.0, 1e9)))
    outcome = build_family("transfer", tmp_path / "family", 1, lambda stage, share: None, TINY)
    assert outcome.passed and not outcome.failed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["family"]
    assert sorted(path.name for path in (tmp_path / "family").iterdir()) == [
        "alpha",
        "beta",
        "card.json",
        "seed",
    ]
    card = FamilyCard.model_validate_json((tmp_path / "family" / "card.json").read_text())
    assert card.training_seed == 1 and card.recipe == TINY and card.gates == outcome.gates
    assert card.skills["alpha"] == ("age", "share", "week", "difference")


def test_bad_requests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown miniature family 'algebra'"):
        build_family("algebra", tmp_path / "x", 1, lambda stage, share: None)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        build_until_passes("arithmetic", tmp_path / "x", 1, 0, lambda stage, share: None)
    with pytest.raises(KeyError, match="no threshold for"):
        judge({"beauty": 1.0})
