"""The selfdev home: the folder of everything that is kept on this machine, and how its files are written."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

_WRITTEN_BY_NOW = 60.0  # seconds that no write of a small file takes


def selfdev_home() -> Path:
    """Folder for everything that is kept: SELFDEV_HOME, or `.selfdev` in the user's home."""
    return Path(os.environ.get("SELFDEV_HOME", "~/.selfdev")).expanduser().resolve()


def campaign_folder(name: str) -> Path:
    """Where a campaign's result, report, status and journals lie."""
    return selfdev_home() / "campaigns" / name


def replace_text(path: Path, text: str) -> None:
    """Write a file of the home: whoever reads it, and whenever this process is killed, it is the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    for left in path.parent.glob(f".{path.name}.*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _WRITTEN_BY_NOW:  # its writer was killed
                left.unlink()
