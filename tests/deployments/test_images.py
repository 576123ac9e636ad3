"""The Dockerfiles: linted, pinned, without root, and everything that they copy is there and let through."""

from __future__ import annotations

import difflib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.deployments.compose import ROOT

IMAGES = ROOT / "deployments" / "images"
NAMES = ("cpu", "gpu")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _instructions(name: str) -> list[list[str]]:
    """Each instruction as its words; continued lines joined, comments left out."""
    text = (IMAGES / f"{name}.Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [line.split() for line in "\n".join(lines).replace("\\\n", " ").splitlines()]


def _of(name: str, kind: str) -> list[list[str]]:
    return [words[1:] for words in _instructions(name) if words[0] == kind]


@pytest.mark.parametrize("name", NAMES)
def test_the_linter_finds_nothing(name: str) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run(
        [hadolint, "--format", "json", IMAGES / f"{name}.Dockerfile"], capture_output=True, text=True, check=False
    )
    assert json.loads(done.stdout) == [] and done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_bases_are_pinned_to_a_python_that_the_package_supports(name: str) -> None:
    bases = [words[0] for words in _of(name, "FROM")]
    assert len(bases) == 2 and len(set(bases)) == 1
    version = re.fullmatch(r"python:(\d+)\.(\d+)\.\d+-slim-\w+", bases[0])
    assert version and PROJECT["requires-python"] == ">=3.11"
    assert (int(version[1]), int(version[2])) >= (3, 11)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_copied_is_there_and_let_through(name: str) -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [words[:-1] for words in _of(name, "COPY") if not words[0].startswith("--from")]
    sources = [source for words in copied for source in words]
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(source == item or source.startswith(f"{item}/") for item in allowed), source
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(packages["packages"]) <= set(sources)  # all that the wheel is made of
    assert {"pyproject.toml", "constraints.txt", PROJECT["readme"], *PROJECT["license-files"]} <= set(sources)


@pytest.mark.parametrize("name", NAMES)
def test_every_library_is_installed_as_constrained_and_before_our_code(name: str) -> None:
    steps = [" ".join(words) for words in _instructions(name)]
    installs = [number for number, step in enumerate(steps) if "pip install" in step]
    assert all("--constraint constraints.txt" in steps[number] for number in installs[:-1])
    assert "--no-deps" in steps[installs[-1]]
    code = [number for number, step in enumerate(steps) if step == "COPY flows flows"]
    assert installs[-2] < code[0] < installs[-1]


@pytest.mark.parametrize("name", NAMES)
def test_the_image_runs_as_a_numbered_ordinary_user(name: str) -> None:
    final = _instructions(name)[max(i for i, words in enumerate(_instructions(name)) if words[0] == "FROM") :]
    users = [words[1] for words in final if words[0] == "USER"]
    made = re.search(r"useradd --uid (\d+) ", " ".join(" ".join(words) for words in final))
    assert made and int(made[1]) >= 10000 and users == [f"{made[1]}:{made[1]}"]


def test_the_gpu_image_is_the_cpu_image_with_another_torch_and_the_driver_asked_for() -> None:
    cpu, gpu = ([" ".join(words) for words in _instructions(name)] for name in NAMES)
    differing = [line[2:] for line in difflib.ndiff(cpu, gpu) if line[0] in "+-"]
    assert all(
        "torch" in line.lower() or "NVIDIA_VISIBLE_DEVICES" in line or "SELFDEV_HOME" in line for line in differing
    )


def test_requirements_are_those_of_the_project_and_a_wrong_extra_fails(tmp_path: Path) -> None:
    def said(extras: str) -> subprocess.CompletedProcess[str]:
        script = [sys.executable, IMAGES / "requirements.py", extras]
        return subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False, env=dict(os.environ))

    assert said("").stdout.splitlines() == PROJECT["dependencies"]
    extra = PROJECT["optional-dependencies"]["kubernetes"]
    assert said("kubernetes").stdout.splitlines() == [*PROJECT["dependencies"], *extra]
    assert said("no-such-extra").returncode != 0


def test_deployments_name_images_and_places_that_the_dockerfiles_make() -> None:
    declared = (ROOT / "deployments" / "prefect.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"image: (\S+)", declared)) <= {f"selfdev:{name}" for name in NAMES}
    homes = {
        found
        for name in NAMES
        for found in re.findall(r"SELFDEV_HOME=(\S+)", " ".join(map(" ".join, _instructions(name))))
    }
    assert set(re.findall(r"selfdev-home:(\S+?)\"", declared)) == homes
