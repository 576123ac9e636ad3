"""With the paper's rule search and test questions come from one file; still no task can load a test question before the end.

Shown on a real iteration: every byte that the store, the jobs and the model processes get is searched for test questions.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from selfdev_core.baselines import Scorer
from selfdev_core.config import CampaignConfig
from selfdev_core.errors import ConfigError
from selfdev_core.evaluation.sources import QuestionSource
from selfdev_core.iteration import IterationSpec, run_iteration
from selfdev_core.prepare import Prepared, open_test_split, prepare
from selfdev_core.records import FactoryRef, canonical_json
from selfdev_core.stages.executor import DirectExecutor, Stage
from selfdev_core.workspace import close_workspaces, workspace_of


class Recording:
    """Runs jobs and keeps their text."""

    def __init__(self, executor: DirectExecutor) -> None:
        self._executor, self.seen = executor, ""

    def map(self, stage: Stage[Any, Any], jobs: Sequence[Any]) -> list[Any]:
        self.seen += "".join(canonical_json(job.model_dump(mode="json")) for job in jobs)
        return self._executor.map(stage, jobs)


@pytest.fixture
def prepared(tmp_path: Path, pico: Any) -> Iterator[Prepared]:
    data = tmp_path / "data"
    data.mkdir()
    for part in ("train", "test"):
        rows = [{"question": f"{part} marker {i} end?", "answer": f"#### {i}"} for i in range(40)]
        (data / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = CampaignConfig.model_validate(
        {
            "name": "sealed",
            "models": {"seed": pico.seed, "experts": dict(pico.experts)},
            "questions": {"benchmark": "gsm8k", "path": data, "split_rule": "paper", "search": 6, "validation": 5,
                          "test": 30, "shots": 1, "max_new_tokens": 4},
            "factory": {"iterations": 1, "samples": 2, "max_new_tokens": 8},
            "resources": {"workers": 1},
            "store": tmp_path / "store",
        }
    )  # fmt: skip
    ready = prepare(config)
    yield ready
    close_workspaces(ready.settings)


def _bytes_of(folder: Path) -> str:
    return "".join(path.read_bytes().decode(errors="replace") for path in sorted(folder.rglob("*")) if path.is_file())


def _iteration(ready: Prepared) -> str:
    """Everything that an iteration gave to its stages. The factory writes nonsense, so one program is put in its place."""
    workspace = workspace_of(ready.settings)
    executor = Recording(DirectExecutor(workspace))
    factory = FactoryRef(sha256=ready.plan.models.seed.sha256)
    spec = IterationSpec(plan=ready.plan, arm="trained", iteration=1, factory=factory, train=False)
    run_iteration(spec, executor, workspace)
    return executor.seen


@pytest.mark.slow
def test_no_test_question_is_anywhere_before_the_split_is_opened(prepared: Prepared, monkeypatch: Any) -> None:
    workspace = workspace_of(prepared.settings)
    asked: list[str] = []
    call = workspace.pool.call
    monkeypatch.setattr(workspace.pool, "call", lambda *a, **k: asked.append(repr(a)) or call(*a, **k))  # type: ignore[func-returns-value]
    source = QuestionSource(prepared.plan.config.questions)
    test = [item.question for item in source.block("test").items]
    search = [item.question for item in source.block("search").items]
    assert len(test) == 30 and all(text.startswith("test marker") for text in search)

    jobs = _iteration(prepared)
    recording = Recording(DirectExecutor(workspace))
    for split, questions in (("search", prepared.plan.search), ("validation", prepared.validation)):
        Scorer(prepared.plan, recording, workspace).score(split, [], (prepared.plan.models.seed,), questions)
    place = Path(prepared.settings.store)
    everything = jobs + recording.seen + "".join(asked) + _bytes_of(place) + _bytes_of(workspace.scratch)
    assert all(text in everything for text in search)  # what is looked for is found where it may be
    assert [text for text in test if text in everything] == []

    opened = open_test_split(prepared.plan, "a-1", ("seed",), workspace)
    assert opened == prepared.plan.sealed
    assert all(text in _bytes_of(place) for text in test)


def test_test_questions_that_change_during_a_campaign_are_not_opened(prepared: Prepared) -> None:
    path = prepared.plan.config.questions.path
    assert path is not None
    file = path / "test.jsonl"
    shutil.copy(file, path / "kept")
    file.write_text(file.read_text().replace("marker 7 end", "marker 7 other end"))
    workspace = workspace_of(prepared.settings)
    with pytest.raises(ConfigError, match=r"questions\.test: the test questions have changed since the campaign began"):
        open_test_split(prepared.plan, "a-1", ("seed",), workspace)
    shutil.copy(path / "kept", file)
    assert open_test_split(prepared.plan, "a-1", ("seed",), workspace).count == 30
