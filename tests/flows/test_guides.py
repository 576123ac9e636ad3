"""The guides' commands run as they stand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from selfdev_core.config import CampaignConfig
from selfdev_core.engines.config import EngineConfig
from selfdev_core.engines.vllm.environment import version_of
from tests.flows.conftest import GUIDE, TINY, Selfdev, environment_of
from tests.planning.test_shapes import MISTRAL


@pytest.mark.slow
def test_every_command_of_the_first_campaign_guide_works(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY, encoding="utf-8")
    script = "set -eu\n" + "\n".join(re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL))
    binaries = str(Path(sys.executable).parent)
    environment = environment_of(finished) | {"PATH": f"{binaries}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    made = {path.name for path in tmp_path.iterdir()}
    assert {"report.html", "winner", "merged", "campaign.yaml"} <= made


GPUS = ("one-gpu.md", "many-gpus.md")


def commands_of(guide: str) -> list[str]:
    text = (Path(__file__).parents[2] / "docs" / guide).read_text(encoding="utf-8")
    return [line for part in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for line in part.splitlines()]


def run_all(commands: list[str], home: Path, folder: Path) -> str:
    environment = environment_of(home) | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    script = "set -eu\n" + "\n".join(commands)
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def small(folder: Path) -> None:
    """What the guides' commands find in their folder."""
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    (folder / "mistral.json").write_text(json.dumps(MISTRAL))
    many = (Path(__file__).parents[2] / "docs" / "many-gpus.md").read_text(encoding="utf-8")
    target = yaml.safe_load(
        next(part for part in re.findall(r"```yaml\n(.*?)```", many, re.DOTALL) if "transfer:" in part)
    )
    (folder / "other.yaml").write_text(yaml.safe_dump(target["transfer"]))


def test_the_command_that_installs_vllm_works(tmp_path: Path) -> None:
    """Real pip in a real environment; the package is an empty one of that name, since the real one has gigabytes."""
    docs = Path(__file__).parents[2] / "docs"
    guides = [docs / name for name in (*GPUS, "my-own-models.md", "my-own-questions.md")]
    apart = "".join("".join(re.findall(r"```console\n(.*?)```", guide.read_text(), re.DOTALL)) for guide in guides)
    assert apart.split("\n") == ["selfdev vllm install", ""]  # all other commands are run as they stand
    metadata = "vllm-0.32.7.dist-info"
    with zipfile.ZipFile(tmp_path / "vllm-0.32.7-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{metadata}/METADATA", "Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.7\n")
        wheel.writestr(f"{metadata}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{metadata}/RECORD", "")
    environment = environment_of(tmp_path / "home") | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path),
    }
    done = subprocess.run(["bash", "-c", apart], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    python = tmp_path / "home" / "vllm" / "environment" / "bin" / "python"
    assert version_of(EngineConfig(kind="vllm", python=python)) == "0.32.7"


LONG = ("selfdev run", "selfdev baselines", "selfdev transfer", "selfdev doctor")  # seconds to minutes


def test_every_quick_command_of_the_gpu_guides_works(finished: Path, tmp_path: Path) -> None:
    small(tmp_path)
    commands = [line for guide in GPUS for line in commands_of(guide) if not line.startswith(LONG)]
    assert len(commands) == 10
    told = run_all(commands, finished, tmp_path)
    assert "measured in campaign tiny" in told and "of the given shape" in told and "Device hours" in told


@pytest.mark.slow
def test_every_long_command_of_the_gpu_guides_works(finished: Path, tmp_path: Path) -> None:
    small(tmp_path)
    commands = [line for guide in GPUS for line in commands_of(guide) if line.startswith(LONG)]
    assert len(commands) == 4
    told = run_all(commands, finished, tmp_path)
    assert "sandbox" in told and "baselines" in told and "on other" in told


def test_the_settings_in_the_guides_are_settings(tmp_path: Path) -> None:
    for guide in GPUS:
        text = (Path(__file__).parents[2] / "docs" / guide).read_text(encoding="utf-8")
        for part in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
            CampaignConfig.model_validate(yaml.safe_load(TINY) | yaml.safe_load(part))


def test_a_plan_agrees_with_what_the_campaign_took(finished: Path, selfdev: Selfdev, tmp_path: Path) -> None:
    """Planned with its own measured rates: amounts within a half, and never above the bound."""
    small(tmp_path)
    lines = json.loads(selfdev("plan", str(tmp_path / "tiny.yaml"), "--like", "tiny", "--json").stdout)
    planned = {line["what"]: line for line in lines if line["group"] == "work"}
    stages = json.loads(selfdev("cost", "tiny", "--json").stdout)["stages"]
    took = {
        "programs drawn": stages["generate"]["cost"]["programs"],
        "questions answered": stages["evaluate"]["cost"]["questions"],
        "tokens sampled in programs": stages["generate"]["cost"]["tokens"],
        "tokens sampled in answers": stages["evaluate"]["cost"]["tokens"],
    }
    for what, amount in took.items():
        assert amount <= planned[what]["at_most"], what
        assert planned[what]["expected"] / 1.5 <= amount <= 1.5 * planned[what]["expected"], what
