"""Reads what `selfdev apply` was given: a program, and `NAME=FOLDER` pairs."""

from __future__ import annotations

from pathlib import Path

from selfdev_core.apply import find_program
from selfdev_core.assemble import load_result
from selfdev_core.config import CampaignConfig
from selfdev_core.errors import ConfigError
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


def parse_models(pairs: list[str]) -> tuple[Path, dict[str, Path]]:
    """(seed folder, expert name → folder)."""
    folders: dict[str, Path] = {}
    for pair in pairs:
        name, given, folder = pair.partition("=")
        if not given or not name or not folder:
            raise ConfigError(f"--models {pair!r}: must be NAME=FOLDER, e.g. seed=./base or math=./math-expert")
        if name in folders:
            raise ConfigError(f"--models: {name!r} is given twice")
        folders[name] = Path(folder)
    seed = folders.pop("seed", None)
    if seed is None or not folders:
        raise ConfigError("--models: give seed=FOLDER and at least one expert NAME=FOLDER")
    return seed, folders
