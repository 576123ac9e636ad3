"""From a configuration to a plan: everything that can be refused is refused here, before any work starts."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from selfdev_core.algorithm.prompt import load_prompt
from selfdev_core.config import CampaignConfig
from selfdev_core.engines.choose import dtype_of, key_of
from selfdev_core.engines.config import EngineConfig
from selfdev_core.errors import ConfigError
from selfdev_core.evaluation.decoding import Decoding
from selfdev_core.evaluation.graders.pool import try_grader
from selfdev_core.evaluation.questions import QuestionBlock, set_of, store_questions
from selfdev_core.evaluation.sources import QuestionSource, load_questions
from selfdev_core.home import selfdev_home
from selfdev_core.iteration import CampaignPlan, TargetPlan
from selfdev_core.merging.checkpoints import open_set
from selfdev_core.merging.fit import check_fit
from selfdev_core.merging.hub import Source, resolve
from selfdev_core.merging.stamps import Stamps, stamps_of
from selfdev_core.records import ModelRef, ModelSet, QuestionSet, Scope, Split
from selfdev_core.resources import ResourcesConfig
from selfdev_core.sandbox import layers
from selfdev_core.workspace import RayCluster, Workspace, WorkspaceSettings, workspace_of


class Prepared(NamedTuple):
    plan: CampaignPlan
    settings: WorkspaceSettings
    validation: QuestionSet
    targets: tuple[TargetPlan, ...] = ()


class Models(NamedTuple):
    """A checked model set, where its checkpoints lie (sha256 → folder) and how their files looked then (sha256 → stamps)."""

    refs: ModelSet
    folders: dict[str, str]
    stamps: dict[str, Stamps]


def prepare(config: CampaignConfig, note: Callable[[str], None] | None = None) -> Prepared:
    """Check models, questions, prompt and store, and resolve them to content.

    `note` hears what ought to be known of the models, and how far the checking of big ones is.
    Raises: ConfigError, CheckpointError or StoreError naming the field or file and what to do about it; SandboxError when
    this machine cannot lock programs in as well as `sandbox.least_level` asks.
    """
    from selfdev_core.targets import plan_targets, resolve_targets

    layers.grant(config.sandbox.least_level)
    if config.resources.runner != "ray":  # there the nodes merge, and this machine need not be like them
        _check_device(config.sandbox.device)
    seed, experts = model_sources(config, note)
    dtype = dtype_of(config.engine, config.resources)
    config = _in_dtype(pinned(config, seed, experts), dtype)
    models = check_models(seed.folder, {n: one.folder for n, one in experts.items()}, config.models.scope, note)
    blocks, decoding = ask(config, seed.folder)
    config, targets = resolve_targets(config, tuple(experts), blocks, note)
    settings = WorkspaceSettings(
        store=str(config.store or selfdev_home() / "store"),
        campaign=config.name,
        models=models.folders | {sha: folder for one in targets.values() for sha, folder in one.models.folders.items()},
        stamps=models.stamps | {sha: look for one in targets.values() for sha, look in one.models.stamps.items()},
        workers=config.resources.workers,
        least_level=config.sandbox.least_level,
        engine=checked_engine(config.engine, config.resources),
        dtype=dtype,
        save_steps=config.resources.save_steps,
        ray=_cluster(config.resources),
    )
    store = workspace_of(settings).store
    plan = CampaignPlan(
        config=config,
        models=models.refs,
        prompt=load_prompt(prompt_of(config)),
        decoding=decoding,
        search=store_questions(store, blocks["search"]),
        sealed=set_of(blocks["test"]),
    )
    carried = plan_targets(plan, targets, store)
    # The test splits are checked above but not stored: only the finalists step puts them where a task can load them.
    return Prepared(plan, settings, store_questions(store, blocks["validation"]), carried)


def prompt_of(config: CampaignConfig) -> str | Path:
    """The prompt template that a campaign uses: a name, or a file."""
    if config.factory.prompt == "auto":
        return "miniature" if config.models.family else "paper"
    return config.factory.prompt


def ask(config: CampaignConfig, seed: Path, field: str = "questions") -> tuple[dict[Split, QuestionBlock], Decoding]:
    """The questions of every split, and how they are asked of the model in `seed` and graded.

    Raises: ConfigError naming what is wrong with them, also a question that stands in two splits.
    """
    source = QuestionSource(config.questions)
    splits: tuple[Split, ...] = ("search", "validation", "test")
    blocks = {split: source.block(split) for split in splits}
    seen: dict[str, str] = {}
    for split, block in blocks.items():
        for item in block.items:
            other = seen.setdefault(item.question, split)
            if other != split:
                raise ConfigError(
                    f"{field}: {item.question[:60]!r} stands in both {other} and {split}; a split that leaks into "
                    "another makes every score worthless: remove it from one of them"
                )
    decoding = source.decoding(seed)
    if decoding.grader.name == "own":
        try_grader(decoding.grader, blocks["search"].items[0].answer)
    key = key_of(config.engine, dtype_of(config.engine, config.resources))
    return blocks, decoding.model_copy(update={"engine": key})


def checked_engine(engine: EngineConfig, resources: ResourcesConfig) -> EngineConfig:
    """The section, checked against this machine. Raises: ConfigError when it does not go with it."""
    if engine.kind == "vllm" and resources.runner == "ray":
        raise ConfigError(
            "engine.kind: vllm uses the GPUs of this machine from this process; it needs resources.runner: threads (engine.gpus "
            "says how many GPUs)"
        )
    if engine.kind == "vllm" and not engine.urls:
        from selfdev_core.engines.vllm.environment import check_environment

        check_environment(engine)
    return engine


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


def seed_source(config: CampaignConfig, note: Callable[[str], None] | None = None, where: str = "models") -> Source:
    """The seed's folder and name; when it is on the Hub it is fetched. `where`: the setting."""
    if config.models.family:
        from selfdev_core.miniature.families import family_folder

        folder = family_folder(config.models.family) / "seed"
        return Source(folder, str(folder))
    assert config.models.seed is not None
    return resolve(config.models.seed, f"{where}.seed", note)


def model_sources(
    config: CampaignConfig, note: Callable[[str], None] | None = None, where: str = "models"
) -> tuple[Source, dict[str, Source]]:
    """The seed as `seed_source` has it, and the experts likewise, in order."""
    seed = seed_source(config, note, where)
    if config.models.family:
        folders = sorted(path for path in seed.folder.parent.iterdir() if path.is_dir() and path != seed.folder)
        return seed, {path.name: Source(path, str(path)) for path in folders}
    return seed, {
        name: resolve(given, f"{where}.experts.{name}", note) for name, given in config.models.experts.items()
    }


def pinned(config: CampaignConfig, seed: Source, experts: dict[str, Source]) -> CampaignConfig:
    """The configuration with the commits that its repositories stood at, so that its result says what it was made of."""
    if config.models.family:
        return config
    names = {"seed": seed.name, "experts": {name: source.name for name, source in experts.items()}}
    return config.model_copy(update={"models": config.models.model_copy(update=names)})


def _in_dtype(config: CampaignConfig, dtype: str) -> CampaignConfig:
    """The configuration with the dtype that `auto` means here, so that its result says what it was computed in."""
    if config.engine.kind != "vllm":
        return config
    return config.model_copy(update={"engine": config.engine.model_copy(update={"dtype": dtype})})


def check_models(
    seed: Path, experts: dict[str, Path], scope: Scope, note: Callable[[str], None] | None = None
) -> Models:
    """Open every checkpoint, check that they fit together, and name them by content; `note` hears warnings and progress."""
    opened, others = open_set(seed, experts)
    looks = {name: stamps_of(model) for name, model in others.items()}
    look = stamps_of(opened)
    for warning in check_fit(opened, others, scope, note):
        if note is not None:
            note(f"note: {warning}")
    base = ModelRef(name="seed", sha256=opened.sha256())
    refs = {name: ModelRef(name=name, sha256=model.sha256()) for name, model in others.items()}
    folders = {base.sha256: str(seed)} | {refs[name].sha256: str(folder) for name, folder in experts.items()}
    stamps = {base.sha256: look} | {refs[name].sha256: one for name, one in looks.items()}
    return Models(ModelSet(seed=base, experts=tuple(refs.values()), scope=scope), folders, stamps)


def open_test_split(
    plan: CampaignPlan,
    winner: str,
    rivals: tuple[str, ...],
    workspace: Workspace,
    stopped_after: int = 0,
    ledger: str = "",
) -> QuestionSet:
    """Open the sealed split: store it and write the opening to the ledger (who opened it, for which models).

    `ledger`: the name under which openings are numbered; by default the campaign's.
    Raises: ConfigError when the questions are no longer those that were sealed when the campaign was prepared.
    """
    from selfdev_core.openings import record_opening

    block = load_questions(plan.config.questions, "test")
    if set_of(block) != plan.sealed:
        raise ConfigError(
            "questions.test: the test questions have changed since the campaign began, so that they may hold others that it has "
            "seen; put the old ones back, or run the same command again to begin with the new ones"
        )
    reference = store_questions(workspace.store, block)
    record_opening(workspace.store, ledger or plan.config.name, reference, winner, rivals, stopped_after)
    return reference
