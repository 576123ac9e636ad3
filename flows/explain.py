"""Writes a campaign file from the configuration model itself, so that file and model cannot drift apart."""

from __future__ import annotations

import textwrap
from importlib.resources import files

import yaml
from pydantic import BaseModel

from selfdev_core.config import CampaignConfig
from selfdev_core.errors import ConfigError

_HEAD = """\
# A campaign, every setting with its default and its meaning. Delete what you do not change.
# Relative paths are taken from this file's folder. Run it with: selfdev run THIS-FILE
"""
_EXAMPLES = {
    "name": "my-campaign",
    "models.seed": "./models/seed",
    "models.experts": {"math": "./models/math", "code": "./models/code"},
    "questions.search_file": "./questions/search.jsonl",
    "questions.validation_file": "./questions/validation.jsonl",
    "questions.test_file": "./questions/test.jsonl",
    "factory.prompt": "paper",
}


def annotated_campaign() -> str:
    """The text of a campaign file for one's own models and questions."""
    return _HEAD + "\n".join(_section(CampaignConfig, "", 0)) + "\n"


def shipped_campaign(name: str) -> str:
    """The text of a campaign file that ships with the package. Raises: ConfigError when there is none of that name."""
    folder = files("deployments") / "campaigns"
    names = sorted(path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml"))
    if name not in names:
        raise ConfigError(f"--from {name}: no such campaign; there are {', '.join(names)}")
    return (folder / f"{name}.yaml").read_text(encoding="utf-8")


def _section(model: type[BaseModel], path: str, depth: int) -> list[str]:
    lines = []
    pad = "  " * depth
    for name, field in model.model_fields.items():
        where = f"{path}{name}"
        if where in ("models.family", "questions.family"):
            continue
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            lines += ["", f"{pad}{name}:", *_section(kind, f"{where}.", depth + 1)]
            continue
        lines += textwrap.wrap(field.description or "", 110, initial_indent=f"{pad}# ", subsequent_indent=f"{pad}# ")
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        value = _EXAMPLES.get(where, _plain(default))
        text = yaml.safe_dump(value, default_flow_style=True).strip().removesuffix("...").strip()
        lines.append(f"{pad}{name}: {text}")
    return lines


def _plain(value: object) -> object:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
