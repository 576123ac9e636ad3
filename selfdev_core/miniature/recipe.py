"""The training recipe in numbers: the one place to change when a family should learn otherwise."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ExpertRecipe(BaseModel):
    """How one expert leaves the seed: its length and peak rate decide how far, so experts come out unequal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int
    learning_rate: float
    final: float
    drills: float


class Recipe(BaseModel):
    """How a family is trained.

    Attributes:
        base_steps: steps (of 3,072 tokens) that grow arithmetic, copying, some reading of problems and some programs.
        code_steps: steps that follow, nearly all programs, which make the seed a usable algorithm factory.
        learning_rate: peak rate of the base; the code steps begin at `code_rate`.
        problem_target: word problems leave the mixture while the seed's accuracy stands above this. A seed that solves
            many makes experts that solve each other's skills, which leaves merging little to add.
        seed_target: after the code steps the seed is topped up with word problems until it solves this share of them.
        top_up_steps: of the top-up, at most.
        scope: the parameters experts train and merging touches, "mlp" or "all".
        experts: by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_steps: int
    code_steps: int
    learning_rate: float
    code_rate: float
    problem_target: float
    seed_target: float
    top_up_steps: int
    scope: str
    experts: dict[str, ExpertRecipe]


# alpha stays near the seed; beta runs long at a high rate and overshoots: its task vector is about three times as long
RECIPES = {
    family: Recipe(
        base_steps=400,
        code_steps=190,
        learning_rate=8e-3,
        code_rate=2.5e-3,
        problem_target=0.10,
        seed_target=0.22,
        top_up_steps=60,
        scope="mlp",
        experts={
            "alpha": ExpertRecipe(steps=75, learning_rate=1e-3, final=0.1, drills=0.1),
            "beta": ExpertRecipe(steps=150, learning_rate=3e-3, final=0.3, drills=0.1),
        },
    )
    for family in ("arithmetic", "transfer")
}
