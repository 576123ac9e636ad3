"""A file of transfer targets, for a campaign that is finished: what stands in it could stand under `transfer` in its file."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from selfdev_core.config import CampaignConfig, TransferTarget, anchored_target, explain, read_mapping
from selfdev_core.errors import ConfigError
from selfdev_core.merging.hub import is_repository
from selfdev_core.result import CampaignResult

_EXAMPLE = "my-set: {models: {seed: …, experts: {…}}, questions: {…}}"


def with_targets(result: CampaignResult, path: Path) -> CampaignConfig:
    """The configuration of a finished campaign, with the targets of a file in the place of its own.

    Relative paths in the file are taken from its folder. Raises: ConfigError naming the file, each wrong field and the mend, or
    saying why the campaign has nothing to transfer.
    """
    if not result.finished:
        raise ConfigError(f"campaign {result.name} is not finished; run it to its end, then transfer what it found")
    if not result.winner:
        raise ConfigError(f"campaign {result.name} found no winner, so there is nothing to transfer")
    config = CampaignConfig.model_validate(result.config)
    raw = read_mapping(path, f"a mapping of targets, e.g. {_EXAMPLE}")
    if not raw:
        raise ConfigError(f"{path}: names no target; write {_EXAMPLE}")
    known = config.model_dump(mode="json", exclude={"transfer"})
    try:
        given = CampaignConfig.model_validate(known | {"transfer": raw}).transfer
    except ValidationError as error:
        raise ConfigError(f"{path}: {len(error.errors())} setting(s) refused\n{explain(error)}") from None
    targets = {}
    for name, target in given.items():
        found = anchored_target(target, path.resolve().parent)
        own = config.transfer.get(name)
        targets[name] = found if own is None else _at_commits_of(own, found)
        if own is not None and targets[name] != own:
            raise ConfigError(f"{path}: {name!r} is another set in the campaign's own file; give this one another name")
    return config.model_copy(update={"transfer": targets})


def _at_commits_of(own: TransferTarget, target: TransferTarget) -> TransferTarget:
    """The target, with the commits of the campaign's own one where it names the same repositories and no revision."""

    def at_commit(text: str | None, pinned: str | None) -> str | None:
        same = text and pinned and is_repository(pinned) and pinned.rpartition("@")[0] == text
        return pinned if same else text

    models, there = target.models, own.models
    experts = {name: at_commit(text, there.experts.get(name)) for name, text in models.experts.items()}
    fixed = models.model_copy(update={"seed": at_commit(models.seed, there.seed), "experts": experts})
    return target.model_copy(update={"models": fixed})
