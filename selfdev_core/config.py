"""The one configuration of a campaign: strict, documented field by field, checked before any work starts.

A field's description is what `selfdev run --explain` prints and what a form in the Prefect UI shows. Defaults are the
miniature campaign's. Where a default is the paper's value the description says so; the rest is our choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from selfdev_core.asking import QuestionsConfig
from selfdev_core.caps import BudgetConfig
from selfdev_core.engines.config import EngineConfig
from selfdev_core.errors import ConfigError
from selfdev_core.grids import HumanGrids
from selfdev_core.merging.hub import anchored
from selfdev_core.records import Level, Scope
from selfdev_core.resources import ResourcesConfig
from selfdev_core.schedules import AblationConfig, TemperatureConfig, first_temperatures
from selfdev_core.section import Section
from selfdev_core.store.location import check_url, is_url
from selfdev_core.training import DpoConfig

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
ExpertName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,95}$")]
CheckpointSource = Annotated[
    str, BeforeValidator(lambda given: str(given) if isinstance(given, Path) else given), Field(min_length=1)
]
StoreUrl = Annotated[str, Field(pattern=r"^s3://[^@?]+$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class ModelsConfig(Section):
    """The seed model, its fine-tuned experts, and what is merged."""

    family: Literal["arithmetic", "transfer"] | None = Field(
        None, description="A shipped miniature family. Give this, or `seed` and `experts`."
    )
    seed: CheckpointSource | None = Field(
        None,
        description="The seed checkpoint: a folder (Hugging Face layout, safetensors), or a repository of the Hugging Face "
        "Hub, org/name or org/name@revision.",
    )
    experts: dict[ExpertName, CheckpointSource] = Field(
        default_factory=dict,
        description="Expert name → checkpoint folder or repository. The names are the keys of `model_dict`, in this order.",
    )
    scope: Scope = Field("mlp", description="Parameters to merge: the MLP blocks (as the paper), or all.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.family and (self.seed or self.experts):
            raise ValueError("give either family, or seed and experts; not both")
        if not self.family and (self.seed is None or not self.experts):
            raise ValueError("give a family (arithmetic, transfer), or a seed folder and at least one expert folder")
        if "seed" in self.experts:
            raise ValueError("experts: 'seed' is the seed model's own name; give this expert another")
        return self


class FactoryConfig(Section):
    """The algorithm factory: a copy of the seed model that writes programs."""

    prompt: Literal["auto", "miniature", "paper"] | Path = Field(
        "auto",
        description="Prompt template: `paper` (one-shot), `miniature` (what the shipped families were trained on), or a file "
        "of your own. auto: `miniature` for a shipped family, `paper` for your own checkpoints.",
    )
    iterations: int = Field(4, ge=1, le=100, description="Rounds of sampling; DPO runs between them (the paper: 3).")
    samples: int = Field(64, ge=1, description="Programs drawn per iteration, N (the paper: 3000).")
    temperature: TemperatureConfig = TemperatureConfig()
    top_p: float = Field(1.0, gt=0.0, le=1.0, description="Nucleus sampling; 1 samples from the whole distribution.")
    max_new_tokens: int = Field(160, ge=8, le=8192, description="Program length limit, tokens.")
    batch_size: int = Field(64, ge=1, description="Programs sampled at once.")


class SandboxConfig(Section):
    """Limits on one run of one program, and how well it must be locked in."""

    seconds: float = Field(10.0, gt=0.0, le=86400.0, description="Wall-clock limit of one run, seconds.")
    memory_gb: float = Field(4.0, ge=1.0, description="Address-space limit of one run, GiB.")
    device: str = Field(
        "cpu",
        pattern=r"^(cpu|cuda(:\d+)?)$",
        description="Where programs merge: cpu, in the jail; or cuda, cuda:0, …, after passing the probes in the jail on the "
        "CPU (SECURITY.md says what is weaker there). On a GPU `memory_gb` bounds the tensors of one program.",
    )
    least_level: Level | None = Field(
        None,
        description="The machine's best level is used; a campaign refuses to start below this one: strict, standard or "
        "process (see SECURITY.md). By default standard on Linux, process elsewhere.",
    )


class PreferenceConfig(Section):
    """How preference pairs are chosen."""

    strategy: Literal["stable", "paper"] = Field(
        "stable",
        description="paper: best p_w against worst p_l of the valid programs. stable: also invalid as rejected.",
    )
    p_w: Share = Field(0.15, description="Share of the programs that become chosen (the paper: 0.03).")
    p_l: Share = Field(0.25, description="Share of the programs that become rejected (the paper: 0.10).")
    carry_over: int = Field(
        3, ge=0, description="Best programs of every earlier iteration that join as chosen (the paper: 3)."
    )
    pairs: int = Field(256, ge=1, description="At most so many pairs per update.")

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.p_w + self.p_l > 1:
            raise ValueError(f"p_w + p_l must be at most 1, got {self.p_w} + {self.p_l}; a program cannot be both")
        if self.p_w == 0 or self.p_l == 0:
            raise ValueError("p_w and p_l must be above 0, or there are no pairs to learn from")
        return self


class FinalistsConfig(Section):
    """Who is measured again at the end."""

    count: int = Field(
        8, ge=1, description="Best programs by search score that are re-scored on validation (the paper: 15)."
    )


class ControlsConfig(HumanGrids):
    """What runs beside the trained factory so that its result can be believed."""

    untrained: bool = Field(
        True, description="The first factory keeps sampling, no DPO, same number of evaluated programs."
    )


class TransferTarget(Section):
    """Another model set, on which the finalists of the campaign are measured unchanged."""

    models: ModelsConfig
    questions: QuestionsConfig
    names: dict[ExpertName, ExpertName] = Field(
        default_factory=dict,
        description="Expert of the campaign → expert of this set which programs find in `model_dict` under that name. "
        "Experts left out keep their own names.",
    )


class CampaignConfig(Section):
    """One campaign, whole."""

    name: Name = Field(description="Lower-case name; results are found under it.")
    seed: int = Field(
        0, ge=0, le=2**31 - 1, description="Seed of everything random. Same seed, same machine: same campaign."
    )
    models: ModelsConfig
    questions: QuestionsConfig
    factory: FactoryConfig = FactoryConfig()
    sandbox: SandboxConfig = SandboxConfig()
    preference: PreferenceConfig = PreferenceConfig()
    dpo: DpoConfig = DpoConfig()
    finalists: FinalistsConfig = FinalistsConfig()
    controls: ControlsConfig = ControlsConfig()
    ablation: AblationConfig = AblationConfig()
    transfer: dict[Name, TransferTarget] = Field(
        default_factory=dict,
        description="Name → model set (`models`, `questions`, `names`) on which the finalists are measured unchanged at the "
        "end, beside human-designed algorithms tuned there.",
    )
    resources: ResourcesConfig = ResourcesConfig()
    engine: EngineConfig = EngineConfig()
    budget: BudgetConfig = BudgetConfig()
    store: StoreUrl | Path | None = Field(
        None,
        description="Artifact store: a folder, or s3://bucket/prefix with endpoint and credentials from the AWS "
        "environment; by default `store` in the selfdev home.",
    )

    @field_validator("store", mode="before")
    @classmethod
    def _address(cls, value: object) -> object:
        return check_url(value) if isinstance(value, str) and is_url(value) else value

    @model_validator(mode="after")
    def _one_iteration(self) -> Self:
        alike = first_temperatures(self.factory.temperature, self.ablation)
        cap, least = self.budget.programs, self.factory.samples * alike
        if cap is not None and cap < least:
            arms = f" ({self.factory.samples} at each of {alike} temperatures)" if alike > 1 else ""
            raise ValueError(
                f"budget.programs: {cap} is less than the first iteration draws{arms}; give at least {least}, or lower "
                "factory.samples"
            )
        return self


def content_of(config: Mapping[str, object]) -> dict[str, object]:
    """Of a configuration as plain data, what its result depends on: neither how the work is spread and where it is stored,
    nor when it stops, nor where its finalists are measured afterwards."""
    apart = ("resources", "budget", "engine", "transfer", "store")
    content = {name: value for name, value in config.items() if name not in apart}
    engine = EngineConfig.model_validate(config.get("engine", {})).key
    return content | ({"engine": engine} if engine else {})


def load_campaign(path: Path) -> CampaignConfig:
    """Read and check a campaign file; relative paths in it are taken from its own folder.

    Raises: ConfigError naming the file, each wrong field and what to do about it.
    """
    raw = read_mapping(path, "a mapping of settings; see deployments/campaigns/miniature.yaml")
    try:
        config = CampaignConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {len(error.errors())} setting(s) refused\n{explain(error)}") from None
    return _anchored(config, path.resolve().parent)


def read_mapping(path: Path, what: str) -> dict[str, object]:
    """A YAML file that holds a mapping. Raises: ConfigError naming the file, and `what` it must hold."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such campaign file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; name a campaign YAML file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must be {what}")
    return raw


def explain(error: ValidationError) -> str:
    """One line per wrong field: where, what is wrong, what was given."""
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"]) or "campaign"
        mend = " (no such setting; check the spelling)" if item["type"] == "extra_forbidden" else ""
        given = "" if item["type"] in ("missing", "value_error", "extra_forbidden") else f", got {item['input']!r}"
        lines.append(f"  {where}: {item['msg'].removeprefix('Value error, ')}{given}{mend}")
    return "\n".join(lines)


def _anchored(config: CampaignConfig, folder: Path) -> CampaignConfig:
    def fix(path: Path | None) -> Path | None:
        return None if path is None else (folder / path.expanduser()).resolve()

    prompt = config.factory.prompt
    factory = config.factory.model_copy(update={"prompt": fix(prompt) if isinstance(prompt, Path) else prompt})
    store = config.store if isinstance(config.store, str) else fix(config.store)
    engine = config.engine
    if engine.python is not None:  # not resolved: a virtual environment's Python is a link
        engine = engine.model_copy(update={"python": folder / engine.python.expanduser()})
    update = {
        "models": _models_from(config.models, folder),
        "questions": config.questions.anchored(folder),
        "factory": factory,
        "engine": engine,
        "store": store,
        "transfer": {name: anchored_target(target, folder) for name, target in config.transfer.items()},
    }
    return config.model_copy(update=update)


def anchored_target(target: TransferTarget, folder: Path) -> TransferTarget:
    """A transfer target whose relative paths are taken from `folder`."""
    update = {"models": _models_from(target.models, folder), "questions": target.questions.anchored(folder)}
    return target.model_copy(update=update)


def _models_from(models: ModelsConfig, folder: Path) -> ModelsConfig:
    seed = None if models.seed is None else anchored(models.seed, folder)
    experts = {name: anchored(given, folder) for name, given in models.experts.items()}
    return models.model_copy(update={"seed": seed, "experts": experts})
