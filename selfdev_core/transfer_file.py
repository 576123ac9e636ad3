"""A file of transfer targets, for a campaign that is finished: what stands in it could stand under `transfer` in its file."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from selfdev_core.config import CampaignConfig, TransferTarget, anchored_target, explain, read_mapping
from selfdev_core.errors import ConfigError
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
    targets = {name: anchored_target(target, path.resolve().parent) for name, target in given.items()}
    taken = [name for name, target in targets.items() if not _is_new(name, target, config)]
    if taken:
        raise ConfigError(f"{path}: {taken[0]!r} is another set in the campaign's own file; give this one another name")
    return config.model_copy(update={"transfer": targets})


def _is_new(name: str, target: TransferTarget, config: CampaignConfig) -> bool:
    return name not in config.transfer or config.transfer[name] == target
