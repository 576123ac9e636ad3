"""Reads what `selfdev apply` was given: a program, and `NAME=FOLDER` or `NAME=ORG/NAME@REVISION` pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from selfdev_core.apply import find_program
from selfdev_core.assemble import load_result
from selfdev_core.config import CampaignConfig
from selfdev_core.errors import ConfigError
from selfdev_core.merging.hub import Source, resolve
from selfdev_core.records import Scope


def program_source(algorithm: str, campaign: str) -> tuple[str, Scope]:
    """(source, merged scope): from a .py file (scope mlp), or from a campaign's programs."""
    path = Path(algorithm)
    if path.suffix == ".py":
        try:
            return path.read_text(encoding="utf-8"), "mlp"
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read: {error}") from error
    result = load_result(campaign)
    return find_program(result, algorithm).source, CampaignConfig.model_validate(result.config).models.scope


def parse_models(pairs: list[str], note: Callable[[str], None]) -> tuple[Source, dict[str, Source]]:
    """The seed and, by name, the experts; what is on the Hub is fetched."""
    given: dict[str, str] = {}
    for pair in pairs:
        name, equals, source = pair.partition("=")
        if not equals or not name or not source:
            raise ConfigError(
                f"--models {pair!r}: must be NAME=FOLDER, e.g. seed=./base or math=./math-expert, or NAME=ORG/NAME@REVISION for "
                "a model of the Hugging Face Hub"
            )
        if name in given:
            raise ConfigError(f"--models: {name!r} is given twice")
        given[name] = source
    if "seed" not in given or len(given) < 2:
        raise ConfigError("--models: give seed=FOLDER and at least one expert NAME=FOLDER")
    found = {name: resolve(source, f"--models {name}", note) for name, source in given.items()}
    return found.pop("seed"), found
