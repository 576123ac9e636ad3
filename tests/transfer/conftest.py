"""A campaign on pico models with a second model set beside it, and an executor that answers by rule instead of by model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfdev_core.config import CampaignConfig, load_campaign
from selfdev_core.prepare import Prepared, prepare
from selfdev_core.records import Cost, EvaluateManifest, Merged, MergeManifest, Record, Scorecard, Verdict
from selfdev_core.stages.jobs import EvaluateJob, MergeJob
from selfdev_core.workspace import close_workspaces
from tests.conftest import Family

PROGRAM = "def merge_models(model_dict, device):\n    return {0} * sum(model_dict.values())\n"
NAMES_MATHS = "def merge_models(model_dict, device):\n    return model_dict['maths']\n"


class Setting:
    """A folder with models, questions and a campaign file; tests change one thing in it."""

    def __init__(self, root: Path, here: Family, there: Family, write_questions: Callable[..., Path]) -> None:
        self.root = root
        for place, start in (("here", 0), ("there", 100)):
            for i, split in enumerate(("search", "validation", "test")):
                write_questions(root / place / f"{split}.jsonl", 4, start=start + 10 * i)
        self.raw: dict[str, Any] = {
            "name": "mine",
            "models": {
                "seed": str(here.seed),
                "experts": {"maths": str(here.experts["alpha"]), "code": str(here.experts["beta"])},
            },
            "questions": self.questions("here"),
            "controls": {"human": ["task_arithmetic"], "task_arithmetic": [0.3, 0.7]},
            "store": "store",
            "transfer": {
                "other": {
                    "models": {"seed": str(there.seed), "experts": {n: str(p) for n, p in there.experts.items()}},
                    "questions": self.questions("there"),
                    "names": {"maths": "alpha", "code": "beta"},
                }
            },
        }  # fmt: skip

    def questions(self, place: str) -> dict[str, Any]:
        files = {f"{split}_file": f"{place}/{split}.jsonl" for split in ("search", "validation", "test")}
        return files | {"search": 4, "validation": 4, "test": 4}

    @property
    def target(self) -> dict[str, Any]:
        found: dict[str, Any] = self.raw["transfer"]["other"]
        return found

    def config(self) -> CampaignConfig:
        path = self.root / "campaign.yaml"
        path.write_text(yaml.safe_dump(self.raw, sort_keys=False))
        return load_campaign(path)

    def prepare(self) -> Prepared:
        return prepare(self.config())


@pytest.fixture(scope="session")
def there(save_pico: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Family:
    root = tmp_path_factory.mktemp("there")
    seed = save_pico(root / "seed", 11)
    return Family(seed, {name: save_pico(root / name, i, near=seed) for i, name in enumerate(("alpha", "beta"), 12)})


@pytest.fixture
def setting(
    tmp_path: Path, pico: Family, there: Family, write_questions: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Setting:
    monkeypatch.setenv("SELFDEV_HOME", str(tmp_path / "home"))
    return Setting(tmp_path, pico, there, write_questions)


@pytest.fixture
def ready(setting: Setting) -> Iterator[Prepared]:
    made = setting.prepare()
    yield made
    close_workspaces(made.settings)


class ByRule:
    """An executor whose merges fail for programs in `failing`, and whose models answer `right[subject]` questions (else 2)."""

    def __init__(self, failing: Sequence[str] = (), **right: int) -> None:
        self.failing, self.right = failing, right
        self.jobs: list[Record] = []

    def map(self, stage: Any, jobs: Sequence[Any]) -> list[Any]:
        self.jobs += jobs
        return [self._merge(job) if isinstance(job, MergeJob) else self._answer(job) for job in jobs]

    def asked(self, split: str) -> set[str]:
        """Who was asked questions of a split."""
        found: set[str] = set()
        for job in self.jobs:
            if isinstance(job, EvaluateJob) and job.questions.split == split:
                found |= {p.algorithm_id for p in job.programs} | {m.name for m in job.plain}
        return found

    def _merge(self, job: MergeJob) -> MergeManifest:
        made = []
        for program in job.programs:
            key = program.algorithm_id
            verdict = Verdict(algorithm_id=key, reason="accepted")
            if key in self.failing:
                verdict = Verdict(algorithm_id=key, reason="exception", detail="KeyError: 'maths'")
            made.append(Merged(algorithm_id=key, verdict=verdict))
        return MergeManifest(merged=tuple(made), cost=Cost())

    def _answer(self, job: EvaluateJob) -> EvaluateManifest:
        subjects = [*(p.algorithm_id for p in job.programs), *(m.name for m in job.plain)]
        cards = []
        for subject in subjects:
            right = self.right.get(subject, 2)
            cards.append(
                Scorecard(
                    subject=subject,
                    split=job.questions.split,
                    questions_sha256=job.questions.sha256,
                    outcomes=("right",) * right + ("wrong",) * (job.questions.count - right),
                    tokens=1,
                    seconds=0.0,
                )
            )
        return EvaluateManifest(scorecards=tuple(cards), cost=Cost(questions=len(cards) * job.questions.count))
