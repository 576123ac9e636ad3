"""What is known of a campaign's models before they are downloaded: bytes, parameters, shape, and how that is known.

A folder on this machine tells everything. A Hub id is asked of the Hub (file sizes and config.json, a few kilobytes); without the
Hub, of what an earlier download left; without that, the size is guessed from the name (`7B`, `0.5B`) and the shape is not known.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from selfdev_core.errors import ConfigError
from selfdev_core.merging.hub import fetched_files
from selfdev_core.planning.lines import Amount
from selfdev_core.planning.shapes import Shape, read_shape, shape_of

_SIZE = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)b(?![a-z0-9])", re.IGNORECASE)
BYTES = 2  # of a parameter as published: bfloat16 or float16
NAMED_WITHIN = 1.25  # a model called 1B has up to this many times a billion parameters; Llama-3.2-1B has 1.24


class ModelFacts(NamedTuple):
    """`size`: bytes of its weights and small files; `download`: bytes of them that are not on this machine yet. The real numbers
    are at most `within` times these."""

    name: str
    size: float
    download: float
    parameters: float | None
    shape: Shape | None
    how: str
    within: float = 1.0

    def amount(self, value: float) -> Amount:
        """A number that follows from its size, as expected and at most."""
        return Amount(value, value * self.within)


class RemoteFile(NamedTuple):
    name: str
    size: int


class Remote(NamedTuple):
    """What the Hub tells of a model: its files, and its config.json as plain data."""

    files: tuple[RemoteFile, ...]
    config: Mapping[str, object]


Ask = Callable[[str, str | None], Remote | None]
"""(repository, revision) → what the Hub tells; None when it cannot be reached."""


def facts_of_folder(name: str, folder: Path) -> ModelFacts:
    """Raises: ConfigError when the folder is no model's."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such checkpoint folder (of {name})")
    shape = read_shape(folder)
    files = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    size, how = _size(files, shape, "on this machine")
    return ModelFacts(name, size, 0.0, shape.parameters, shape, how)


def facts_of_hub(name: str, repository: str, revision: str | None, ask: Ask, given: Shape | None = None) -> ModelFacts:
    """A model on the Hub. `given`: the shape of a config.json that the user named, used where the Hub does not answer.

    Raises: ConfigError when the Hub has no such model, or nothing tells how big it is.
    """
    remote = ask(repository, revision)
    if remote is not None:
        shape = shape_of(remote.config, f"{repository}/config.json") if remote.config else given
        parameters = shape.parameters if shape else None
        size, how = _size({file.name: file.size for file in remote.files}, shape, "file sizes from the Hub")
        return ModelFacts(name, size, size, parameters, shape, how)
    if given is not None:
        size = given.parameters * BYTES
        how = f"{given.parameters / 1e9:.2f} billion parameters of the given shape × {BYTES} bytes"
        return ModelFacts(name, size, size, given.parameters, given, how)
    named = _SIZE.search(repository)
    if named is None:
        raise ConfigError(
            f"{repository}: the Hub does not answer and the name does not tell the size; give its config.json with --shape"
        )
    guessed = float(named.group(1)) * 1e9
    how = f"“{named.group(0)}” in its name × {BYTES} bytes, at most {NAMED_WITHIN:g} times that; the Hub did not answer"
    return ModelFacts(name, guessed * BYTES, guessed * BYTES, guessed, None, how, NAMED_WITHIN)


def _size(files: Mapping[str, int], shape: Shape | None, how: str) -> tuple[float, str]:
    """Bytes of what a campaign takes of these files, and how that is known."""
    taken = fetched_files(files)
    if any(name.endswith(".safetensors") for name in taken):
        return sum(files[name] for name in taken), how
    size = shape.parameters * BYTES if shape else 0.0
    return size, f"no safetensors, so the campaign will refuse it: convert it first (here {BYTES} bytes per parameter)"


def ask_hub(repository: str, revision: str | None) -> Remote | None:
    """Ask the Hub (or HF_ENDPOINT) for file sizes and config.json, and keep nothing; None when it cannot be reached.

    Raises: ConfigError when it answers that there is no such model or revision, or that one must log in; when what it tells
    cannot be put into a temporary folder.
    """
    import httpx2  # what huggingface_hub speaks, and whose errors it lets through
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if constants.HF_HUB_OFFLINE:
        return None
    try:
        api = HfApi()
        info = api.model_info(repository, revision=revision, files_metadata=True, timeout=15.0)
        files = tuple(RemoteFile(one.rfilename, one.size or 0) for one in info.siblings or ())
        config: object = {}
        if any(file.name == "config.json" for file in files):
            with tempfile.TemporaryDirectory() as folder:  # the Hub's cache is the user's
                file = api.hf_hub_download(repository, "config.json", revision=info.sha, local_dir=folder)
                config = json.loads(Path(file).read_text(encoding="utf-8"))
        return Remote(files, config if isinstance(config, dict) else {})
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403, 404):
            raise ConfigError(
                f"{repository}: the Hub has no such model{f' at revision {revision}' if revision else ''}, or it asks for a "
                "login (HF_TOKEN)"
            ) from None
        return None
    except (httpx2.HTTPError, LocalEntryNotFoundError, ConnectionError, TimeoutError, ValueError):
        return None
    except OSError as error:
        raise ConfigError(
            f"{repository}: its config.json cannot be put into a temporary folder of this machine ({error}); free some space, or "
            "name another folder in TMPDIR"
        ) from error
