"""Checkpoints by name: a folder, or a repository of the Hugging Face Hub with a revision (`org/name`, `org/name@revision`).

What exists as a folder is a folder. Of a repository only safetensors, configs and tokenizers are fetched: never pickled weights,
never code. Downloads, cache, endpoint and access token are huggingface_hub's own affair (HF_HOME, HF_ENDPOINT, HF_TOKEN,
HF_HUB_OFFLINE).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from selfdev_core.errors import CheckpointError

_REPOSITORY = re.compile(r"^(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[A-Za-z0-9][\w./-]*))?$")
_WANTED = ["*.safetensors", "*.json", "*.txt", "*.jinja", "tokenizer*.model", "LICENSE*", "NOTICE*"]
_UNWANTED = ["*/*", "consolidated*", "*.bin.index.json", "training_args*", "trainer_state.json"]


class Source(NamedTuple):
    """A checkpoint's folder on this machine, and its name: the folder, or `org/name@commit`."""

    folder: Path
    name: str


def is_repository(text: str) -> bool:
    """Whether this could name a repository of the Hub (`org/name`, perhaps with `@revision`)."""
    return _REPOSITORY.match(text) is not None


def anchored(text: str, folder: Path) -> str:
    """A setting as it will be looked up: a path from `folder` on when something lies there or it cannot be a repository."""
    path = (folder / Path(text).expanduser()).resolve()
    return text if is_repository(text) and not path.exists() else str(path)


def fetched_files(names: Iterable[str]) -> list[str]:
    """Those of a repository's files that `resolve` fetches."""

    def among(name: str, patterns: list[str]) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    return [name for name in names if among(name, _WANTED) and not among(name, _UNWANTED)]


def resolve(text: str, where: str, note: Callable[[str], None] | None = None) -> Source:
    """The folder of a checkpoint; a repository is fetched first, or found in the Hub's cache.

    `where` names the setting; `note` hears of a download. Raises: CheckpointError with what the Hub says and the mend.
    """
    path = Path(text).expanduser()
    found = _REPOSITORY.match(text)
    if path.is_dir() or found is None:
        return Source(path, text)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    repo, revision = found["repo"], found["revision"]
    if note is not None:
        note(f"{where}: {text} comes from the Hugging Face Hub, unless it is in its cache")
    try:
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=_WANTED, ignore_patterns=_UNWANTED))
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{where}: {text} is no folder here, and not in the Hub's cache while the Hub cannot be reached (offline, or "
            f"HF_HUB_OFFLINE is set); give a folder, or fetch it first: hf download {repo}"
            + (f" --revision {revision}" if revision else "")
        ) from error
    except Exception as error:
        raise CheckpointError(
            f"{where}: {text} is no folder here, and the Hub does not give it: {_first_line(error)}; check the name and the "
            "revision, and for a gated model `hf auth login`"
        ) from error
    return Source(folder, f"{repo}@{folder.name}")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
