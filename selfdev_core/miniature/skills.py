"""Which skills each family has, and which of its experts is trained on them; the seed meets all of them a little."""

from __future__ import annotations

from selfdev_core.miniature import skills_arithmetic, skills_transfer
from selfdev_core.miniature.skill import Form, Skill, solve

__all__ = ["SKILLS", "Form", "Skill", "solve"]

# family -> expert -> skills
SKILLS: dict[str, dict[str, tuple[Skill, ...]]] = {
    "arithmetic": {**skills_arithmetic.EXPERT_SKILLS},
    "transfer": {**skills_transfer.EXPERT_SKILLS},
}
