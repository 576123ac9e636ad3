"""Transfer targets of a campaign, resolved to content: their models under the names that programs know, their questions.

Everything that can be refused is refused here, before any work starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from selfdev_core.config import CampaignConfig, TransferTarget
from selfdev_core.errors import CheckpointError, ConfigError
from selfdev_core.evaluation.decoding import Decoding
from selfdev_core.evaluation.questions import QuestionBlock, set_of, store_questions
from selfdev_core.iteration import CampaignPlan, TargetPlan
from selfdev_core.prepare import Models, ask, check_models, model_sources, pinned
from selfdev_core.records import Split
from selfdev_core.store.artifacts import ArtifactStore

Splits = Mapping[Split, QuestionBlock]
Note = Callable[[str], None] | None


class Target(NamedTuple):
    """A target that was checked: its models, its questions and how they are asked. Nothing of it is stored yet."""

    models: Models
    blocks: Splits
    decoding: Decoding


def resolve_targets(
    config: CampaignConfig, experts: tuple[str, ...], home: Splits, note: Note = None
) -> tuple[CampaignConfig, dict[str, Target]]:
    """Check every target. Returns the configuration with the commits of what is on the Hub, and the targets by name.

    `experts`, `home`: the campaign's own. Raises: ConfigError when `names` speaks of an expert that is not there or gives one
    name to two, or when a question stands in two splits that must be kept apart; CheckpointError.
    """
    fixed, targets = {}, {}
    for name, target in config.transfer.items():
        moved = moved_to(config, target)
        seed, others = model_sources(moved, note, f"transfer.{name}.models")
        shown = _shown(name, target, experts, tuple(others))
        fixed[name] = target.model_copy(update={"models": pinned(moved, seed, others).models})
        folders = {shown[own]: source.folder for own, source in others.items()}
        try:
            models = check_models(seed.folder, folders, target.models.scope, note)
        except CheckpointError as error:
            raise CheckpointError(f"transfer.{name}: {error}") from error
        blocks, decoding = ask(moved, seed.folder, f"transfer.{name}.questions")
        _keep_apart(name, home, blocks)
        targets[name] = Target(models, blocks, decoding)
    return config.model_copy(update={"transfer": fixed}), targets


def plan_targets(plan: CampaignPlan, targets: Mapping[str, Target], store: ArtifactStore) -> tuple[TargetPlan, ...]:
    """What each target's stages need. Search and validation questions go to the store, test questions do not."""
    made = []
    for name, (models, blocks, decoding) in targets.items():
        target = plan.config.transfer[name]
        moved = CampaignPlan(
            config=moved_to(plan.config, target),
            models=models.refs,
            prompt=plan.prompt,
            decoding=decoding,
            search=store_questions(store, blocks["search"]),
            sealed=set_of(blocks["test"]),
        )
        made.append(
            TargetPlan(
                name=name,
                plan=moved,
                validation=store_questions(store, blocks["validation"]),
                own_names={ref.name: target.names.get(ref.name, ref.name) for ref in models.refs.experts},
                same_test=moved.sealed == plan.sealed,
            )
        )
    return tuple(made)


def moved_to(config: CampaignConfig, target: TransferTarget) -> CampaignConfig:
    """The campaign's configuration with the models and questions of a target."""
    return config.model_copy(update={"models": target.models, "questions": target.questions, "transfer": {}})


def _shown(name: str, target: TransferTarget, experts: tuple[str, ...], others: tuple[str, ...]) -> dict[str, str]:
    """Own name of an expert of the target → the name by which programs find it."""
    field = f"transfer.{name}.names"
    for wanted, known, whose in ((target.names, experts, "the campaign"), (target.names.values(), others, "this set")):
        unknown = sorted(set(wanted) - set(known))
        if unknown:
            raise ConfigError(f"{field}: {whose} has no expert {unknown[0]!r}; it has {', '.join(known)}")
    back = {own: shown for shown, own in target.names.items()}
    shown = {own: back.get(own, own) for own in others}
    if len(back) < len(target.names) or len(set(shown.values())) < len(shown):
        raise ConfigError(
            f"{field}: two experts of the campaign must not be one here, nor two here one there (programs would find "
            f"{', '.join(shown.values())}); map each to another one"
        )
    return shown


def _keep_apart(name: str, home: Splits, there: Splits) -> None:
    """What picked the programs must not test them there; what tests them here must not tune or pick anything there."""
    sides = (
        ("the campaign's", home, f"transfer.{name}'s", there),
        (f"transfer.{name}'s", there, "the campaign's", home),
    )
    for whose, sealed, others, asked in sides:
        tests = {item.question for item in sealed["test"].items}
        for split in ("search", "validation"):
            shared = next((item.question for item in asked[split].items if item.question in tests), None)
            if shared is not None:
                raise ConfigError(
                    f"transfer.{name}.questions: {shared[:60]!r} stands in {whose} test split and in {others} {split} "
                    "split; remove it from one of them, or give both sets the same splits"
                )
