"""From a configuration to a plan: everything that can be refused is refused here, before any work starts."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import NamedTuple

from selfdev_core.algorithm.prompt import load_prompt
from selfdev_core.config import CampaignConfig
from selfdev_core.errors import ConfigError
from selfdev_core.evaluation.questions import load_questions, store_questions
from selfdev_core.home import selfdev_home
from selfdev_core.iteration import CampaignPlan
from selfdev_core.merging.checkpoints import Checkpoint, check_fit
from selfdev_core.records import ModelRef, ModelSet, QuestionSet, Scope
from selfdev_core.resources import ResourcesConfig
from selfdev_core.sandbox import layers
from selfdev_core.workspace import RayCluster, Workspace, WorkspaceSettings, workspace_of


class Prepared(NamedTuple):
    plan: CampaignPlan
    settings: WorkspaceSettings
    validation: QuestionSet


class Models(NamedTuple):
    """A checked model set and where its checkpoints lie (sha256 → folder)."""

    refs: ModelSet
    folders: dict[str, str]


def prepare(config: CampaignConfig) -> Prepared:
    """Check models, questions, prompt and store, and resolve them to content.

    Raises: ConfigError, CheckpointError or StoreError naming the field or file and what to do about it; SandboxError when
    this machine cannot lock programs in as well as `sandbox.least_level` asks.
    """
    layers.grant(config.sandbox.least_level)
    if config.resources.runner != "ray":  # there the nodes merge, and this machine need not be like them
        _check_device(config.sandbox.device)
    seed, experts = model_folders(config)
    models = check_models(seed, experts, config.models.scope)
    blocks = {split: load_questions(config.questions, split) for split in ("search", "validation", "test")}
    seen: dict[str, str] = {}
    for split, block in blocks.items():
        for item in block.items:
            other = seen.setdefault(item.question, split)
            if other != split:
                raise ConfigError(
                    f"questions: {item.question[:60]!r} stands in both {other} and {split}; a split that leaks into "
                    "another makes every score worthless: remove it from one of them"
                )
    settings = WorkspaceSettings(
        store=str(config.store or selfdev_home() / "store"),
        campaign=config.name,
        models=models.folders,
        workers=config.resources.workers,
        least_level=config.sandbox.least_level,
        ray=_cluster(config.resources),
    )
    store = workspace_of(settings).store
    plan = CampaignPlan(
        config=config,
        models=models.refs,
        prompt=load_prompt(config.factory.prompt),
        search=store_questions(store, blocks["search"]),
    )
    # The test split is checked above but not stored: only the finalists step puts it where a task can load it.
    return Prepared(plan, settings, store_questions(store, blocks["validation"]))


def _cluster(resources: ResourcesConfig) -> RayCluster | None:
    if resources.runner == "threads":
        return None
    missing = [name for name in ("ray", "prefect_ray") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"resources.runner: ray needs {' and '.join(missing)}: pip install selfdev[ray], on every node; or use "
            "runner: threads"
        )
    return RayCluster(address=resources.ray_address or "", gpus_per_worker=resources.gpus_per_worker)


def _check_device(device: str) -> None:
    if device == "cpu":
        return
    import torch

    if not torch.cuda.is_available() or (torch.device(device).index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"sandbox.device: {device!r} is not there (torch {torch.__version__} sees {torch.cuda.device_count()} GPUs); "
            "use cpu, or install a CUDA build of torch on a machine with such a GPU"
        )


def model_folders(config: CampaignConfig) -> tuple[Path, dict[str, Path]]:
    """Seed folder, and expert name → folder in order."""
    if config.models.family:
        from selfdev_core.miniature.families import family_folder

        root = family_folder(config.models.family)
        return root / "seed", {
            name: root / name for name in sorted(p.name for p in root.iterdir() if p.is_dir()) if name != "seed"
        }
    assert config.models.seed is not None
    return config.models.seed, dict(config.models.experts)


def check_models(seed: Path, experts: dict[str, Path], scope: Scope) -> Models:
    """Open every checkpoint, check that they fit together, and name them by content."""
    opened = Checkpoint(seed)
    others = {name: Checkpoint(folder) for name, folder in experts.items()}
    check_fit(opened, others, scope)
    base = ModelRef(name="seed", sha256=opened.sha256())
    refs = {name: ModelRef(name=name, sha256=model.sha256()) for name, model in others.items()}
    folders = {base.sha256: str(seed)} | {refs[name].sha256: str(folder) for name, folder in experts.items()}
    return Models(ModelSet(seed=base, experts=tuple(refs.values()), scope=scope), folders)


def open_test_split(
    config: CampaignConfig, winner: str, rivals: tuple[str, ...], workspace: Workspace, stopped_after: int = 0
) -> QuestionSet:
    """Open the sealed split: store it and write the opening to the ledger (who opened it, for which models)."""
    from selfdev_core.openings import record_opening

    reference = store_questions(workspace.store, load_questions(config.questions, "test"))
    record_opening(workspace.store, config.name, reference, winner, rivals, stopped_after)
    return reference
