"""Runs a Python command as the user nobody: `python -m tests.security.nobody -m pytest …`, started by root.

Folders that only root may enter (an interpreter in root's home, say) are opened to nobody in a mount namespace of the
command's own; nothing changes for anybody else.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path

from tests.security.world import REPOSITORY

NOBODY = 65534


def main(arguments: list[str]) -> None:
    needed = {Path(place).resolve() for place in (sys.prefix, sys.base_prefix, str(REPOSITORY), *sys.path) if place}
    closed: dict[Path, list[Path]] = {}
    for path in sorted(folder for folder in needed if folder.is_dir()):
        for ancestor in reversed([path, *path.parents]):
            if not ancestor.stat().st_mode & stat.S_IXOTH:
                closed.setdefault(ancestor, []).append(path)
                break
    if closed:
        _open(closed)
    home = tempfile.mkdtemp(prefix="selfdev-nobody-")
    os.chown(home, NOBODY, NOBODY)
    if pid := os.fork():
        _, status = os.waitpid(pid, 0)
        shutil.rmtree(home, ignore_errors=True)
        sys.exit(os.waitstatus_to_exitcode(status))
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "PYTHONPATH")}
    quiet = {"HOME": home, "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_STORAGE_DIRECTORY": f"{home}/hypothesis"}
    os.execve(sys.executable, [sys.executable, *arguments], kept | quiet)


def _open(closed: dict[Path, list[Path]]) -> None:
    """Cover each closed folder by an open, empty one that shows the needed folders only."""
    from selfdev_core.sandbox import kernel

    bind = 4096 | kernel.MS_REC
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    aside = Path(tempfile.mkdtemp(prefix="selfdev-aside-"))
    aside.chmod(0o755)
    kernel.mount("none", str(aside), "tmpfs", 0, "mode=755")
    for ancestor, paths in closed.items():
        for number, path in enumerate(paths):
            (aside / str(number)).mkdir(exist_ok=True)
            kernel.mount(str(path), str(aside / str(number)), None, bind)
        kernel.mount("none", str(ancestor), "tmpfs", 0, "mode=755")
        for number, path in enumerate(paths):
            path.mkdir(parents=True, exist_ok=True)
            kernel.mount(str(aside / str(number)), str(path), None, bind)
            kernel.unmount(str(aside / str(number)))
    kernel.unmount(str(aside))
    aside.rmdir()


if __name__ == "__main__":
    main(sys.argv[1:])
