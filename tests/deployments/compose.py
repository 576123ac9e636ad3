"""The compose file as Compose reads it: merge keys resolved, `${…}` filled in from an environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deployments" / "compose.yaml"
EXAMPLE = ROOT / "deployments" / ".env.example"
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<how>[-?])(?P<text>[^}]*))?\}")


class Unset(Exception):
    """A variable that must be set is empty: what `${NAME:?…}` makes of it."""


def example() -> dict[str, str]:
    """The settings of .env.example."""
    lines = [line for line in EXAMPLE.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def filled() -> dict[str, str]:
    """.env.example with secrets filled in, as a user would."""
    return {name: value or f"made-up-{name.lower()}" for name, value in example().items()}


def compose(environment: Mapping[str, str]) -> dict[str, Any]:
    """The whole file. Raises: Unset naming a variable that has no value and must have one."""
    loaded: dict[str, Any] = _interpolated(yaml.safe_load(FILE.read_text(encoding="utf-8")), environment)
    return loaded


def _interpolated(value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _interpolated(item, environment) for name, item in value.items()}
    if isinstance(value, list):
        return [_interpolated(item, environment) for item in value]
    return VARIABLE.sub(lambda found: _value(found, environment), value) if isinstance(value, str) else value


def _value(found: re.Match[str], environment: Mapping[str, str]) -> str:
    value = environment.get(found["name"], "")
    if not value and found["how"] == "?":
        raise Unset(found["name"])
    return value or (found["text"] if found["how"] == "-" else "")
