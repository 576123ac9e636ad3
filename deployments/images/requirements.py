"""Prints the requirements of pyproject.toml, so that an image can install libraries in a layer that our code does not change."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def requirements(project: Path, extras: str) -> list[str]:
    """Dependencies, then those of the comma-separated extras. Raises: KeyError when an extra is not there."""
    table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    names = [name for name in extras.split(",") if name]
    optional = table.get("optional-dependencies", {})
    return [*table["dependencies"], *(line for name in names for line in optional[name])]


if __name__ == "__main__":
    print("\n".join(requirements(Path("pyproject.toml"), sys.argv[1])))
