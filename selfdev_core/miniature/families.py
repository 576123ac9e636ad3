"""The families that ship with the package, and the card that says how each was trained and what it measured."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from selfdev_core.miniature.gates import Gate
from selfdev_core.miniature.recipe import Recipe

FAMILIES = ("arithmetic", "transfer")

CARD = "card.json"
SEED = "seed"


class FamilyCard(BaseModel):
    """How a family came to be and what it measured.

    Attributes:
        training_seed: the build seed that passed.
        skills: expert name -> the skills it was trained on.
        gates: every gate with its value and band; all passed, or the family would not exist.
        record: further figures (accuracies are fractions of validation questions answered right, greedy).
        seconds: wall-clock time of the build.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str
    training_seed: int
    scope: str
    skills: dict[str, tuple[str, ...]]
    recipe: Recipe
    gates: tuple[Gate, ...]
    record: dict[str, float]
    seconds: float


def family_folder(name: str) -> Path:
    """The shipped folder of a family: `seed/`, one folder per expert, and `card.json`.

    Raises:
        ValueError: unknown family.
    """
    if name not in FAMILIES:
        raise ValueError(f"unknown miniature family {name!r}: expected one of {', '.join(FAMILIES)}")
    return Path(__file__).parent / "weights" / name


def family_card(name: str) -> FamilyCard:
    """The card of a shipped family.

    Raises:
        ValueError: unknown family, or a card that does not fit.
        FileNotFoundError: the family's weights are not installed (build them with `selfdev miniature build`).
    """
    return FamilyCard.model_validate_json((family_folder(name) / CARD).read_text(encoding="utf-8"))
