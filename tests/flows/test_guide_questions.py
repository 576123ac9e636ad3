"""The guide to one's own questions: its files, saved under their names, and its commands, run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from selfdev_core.asking import QuestionsConfig
from tests.flows.conftest import command, environment_of

GUIDE = (Path(__file__).parents[2] / "docs" / "my-own-questions.md").read_text(encoding="utf-8")
FILES = re.findall(r"Save as `([^`]+)`.*?\n\n```\w+\n(.*?)```", GUIDE, re.DOTALL)


def test_the_guides_yaml_is_what_the_configuration_takes() -> None:
    sections = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)]
    assert len(sections) == 2
    for section in sections:
        QuestionsConfig.model_validate(section["questions"])
    (mine,) = re.findall(r"^questions:\n((?:  .*\n)+)factory", GUIDE, re.MULTILINE)
    assert len(mine.splitlines()) <= 10


@pytest.mark.slow
def test_every_command_of_the_guide_works(tmp_path: Path) -> None:
    assert [name for name, _ in FILES] == [
        "questions.jsonl",
        "mine.yaml",
        "ends.py",
        "answers.jsonl",
        "small/test.jsonl",
    ]
    for name, text in FILES:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    script = "set -eu\n" + "\n".join(re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL))
    home = tmp_path / "home"
    environment = environment_of(home) | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    try:
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1800
        )
    finally:
        subprocess.run(command("server", "stop"), env=environment, check=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mine · search, 3 questions" in done.stdout and "2 answers, matched by their own references" in done.stdout
    assert "gsm8k · test, 2 questions" in done.stdout and (home / "campaigns" / "mine" / "report.html").is_file()
