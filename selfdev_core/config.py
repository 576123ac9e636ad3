"""The one configuration of a campaign: strict, documented field by field, checked before any work starts.

A field's description is what `selfdev run --explain` prints and what a form in the Prefect UI shows. Defaults are the
miniature campaign's. Where a default is the paper's value the description says so; the rest is our choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from selfdev_core.errors import ConfigError
from selfdev_core.records import Level, Scope
from selfdev_core.resources import ResourcesConfig
from selfdev_core.section import Section
from selfdev_core.store.location import check_url, is_url

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
ExpertName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,95}$")]
StoreUrl = Annotated[str, Field(pattern=r"^s3://[^@?]+$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class ModelsConfig(Section):
    """The seed model, its fine-tuned experts, and what is merged."""

    family: Literal["arithmetic", "transfer"] | None = Field(
        None, description="A shipped miniature family. Give this, or `seed` and `experts`."
    )
    seed: Path | None = Field(None, description="Folder of the seed checkpoint (Hugging Face layout, safetensors).")
    experts: dict[ExpertName, Path] = Field(
        default_factory=dict,
        description="Expert name → checkpoint folder. The names are the keys of `model_dict`, in this order.",
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


class QuestionsConfig(Section):
    """Where the questions come from and how many each split holds."""

    family: Literal["arithmetic", "transfer"] | None = Field(
        None, description="Word problems of a miniature family. Give this, or the three files."
    )
    search_file: Path | None = Field(
        None, description="JSONL with `question` and `answer`: queried by every candidate."
    )
    validation_file: Path | None = Field(None, description="JSONL: re-scores the finalists.")
    test_file: Path | None = Field(None, description="JSONL: opened once, by the winner.")
    search: int = Field(
        64, ge=1, description="Search questions per candidate (the paper: 100 for GSM8K, 600 for MATH)."
    )
    validation: int = Field(256, ge=1, description="Validation questions per finalist.")
    test: int = Field(1000, ge=1, description="Test questions.")
    template: str = Field("Q: {question}\nA:", description="Prompt of one question; must hold `{question}`.")
    max_new_tokens: int = Field(36, ge=1, le=4096, description="Answer length limit, tokens.")
    batch_size: int = Field(128, ge=1, description="Questions answered at once.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        files = (self.search_file, self.validation_file, self.test_file)
        if self.family and any(files):
            raise ValueError("give either family or the three question files; not both")
        if not self.family and not all(files):
            raise ValueError("give a family, or search_file, validation_file and test_file")
        if "{question}" not in self.template:
            raise ValueError("template: must hold {question}")
        return self


class TemperatureConfig(Section):
    """Sampling temperature per iteration t = 1, 2, …"""

    schedule: Literal["decay", "constant"] = Field(
        "constant",
        description="constant: always `first`, so that what changes over iterations is the factory. "
        "decay: first / (1 + rate·(t−1)), as the paper.",
    )
    first: float = Field(1.0, gt=0.0, le=5.0, description="Temperature of iteration 1 (the paper: 1.2).")
    rate: float = Field(
        0.2, ge=0.0, description="Decay constant (the paper: 0.2, giving 1.2, 1.0, 0.857). Only for decay."
    )


class FactoryConfig(Section):
    """The algorithm factory: a copy of the seed model that writes programs."""

    prompt: Literal["miniature", "paper"] | Path = Field(
        "miniature", description="Prompt template: `miniature`, `paper` (one-shot), or a file of your own."
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


class DpoConfig(Section):
    """Direct preference optimisation of the factory (TRL)."""

    method: Literal["full", "lora"] = Field("full", description="Full fine-tune, or LoRA merged into the factory.")
    lora_rank: int = Field(16, ge=1, description="LoRA rank (the paper: 256). Only for method lora.")
    learning_rate: float = Field(1e-4, gt=0.0, description="Peak learning rate (the paper: 1e-6 with LoRA at 7B).")
    beta: float = Field(0.3, gt=0.0, description="DPO β (the paper: 0.01).")
    sft_weight: float = Field(0.5, ge=0.0, description="Weight of the SFT term on chosen programs; 0 leaves it out.")
    steps: int = Field(20, ge=1, description="Optimiser steps per update.")
    batch_size: int = Field(16, ge=1, description="Pairs per step.")
    min_valid_share: Share = Field(
        0.9,
        description="Validity guard: an update whose fresh samples are less often valid is halved, quartered, skipped; 0: off.",
    )
    guard_samples: int = Field(64, ge=1, description="Fresh samples that the guard draws.")


class FinalistsConfig(Section):
    """Who is measured again at the end."""

    count: int = Field(
        8, ge=1, description="Best programs by search score that are re-scored on validation (the paper: 15)."
    )


class ControlsConfig(Section):
    """What runs beside the trained factory so that its result can be believed."""

    untrained: bool = Field(
        True, description="The first factory keeps sampling, no DPO, same number of evaluated programs."
    )
    task_arithmetic: tuple[float, ...] = Field(
        (0.2, 0.4, 0.6, 0.8, 1.0), description="Coefficients of the task-arithmetic grid; empty switches it off."
    )
    ties: tuple[tuple[float, float], ...] = Field(
        tuple((d, c) for d in (0.2, 0.4, 0.6) for c in (0.6, 1.0, 1.4)),
        description="TIES grid: (density kept, coefficient) pairs; empty switches it off.",
    )
    dare: tuple[tuple[float, float], ...] = Field(
        tuple((d, c) for d in (0.4, 0.6, 0.8) for c in (0.4, 0.6, 0.8)),
        description="DARE grid: (drop rate, coefficient) pairs; empty switches it off.",
    )


class BudgetConfig(Section):
    """Caps on the search. Nothing here changes a score or is part of a cache key; raise a cap and run again to go on.

    A campaign always does one iteration. At a cap it begins no further one, makes controls, finalists and report from
    what there is (which comes on top of the cap), and says so.
    """

    wall_hours: float | None = Field(
        None, gt=0.0, description="No iteration begins once the campaign has run for so long, all its runs together."
    )
    device_hours: float | None = Field(
        None, gt=0.0, description="No iteration begins once its workers have been busy for so long, all together."
    )
    programs: int | None = Field(
        None, ge=1, description="Programs drawn, both arms together; no iteration begins that would draw more."
    )
    tokens: int | None = Field(
        None, ge=1, description="No iteration begins once so many tokens were sampled in programs and search answers."
    )
    price_per_device_hour: float | None = Field(
        None, ge=0.0, description="What an hour of a busy worker costs; `selfdev cost` turns it into money."
    )
    currency: str = Field("USD", min_length=1, max_length=8, description="Of the price.")


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
    resources: ResourcesConfig = ResourcesConfig()
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
        cap, least = self.budget.programs, self.factory.samples
        if cap is not None and cap < least:
            raise ValueError(
                f"budget.programs: {cap} is less than one iteration draws; give at least {least}, or lower factory.samples"
            )
        return self


def content_of(config: Mapping[str, object]) -> dict[str, object]:
    """Of a configuration as plain data, what its result depends on: neither how the work is spread nor when it stops."""
    return {name: value for name, value in config.items() if name not in ("resources", "budget")}


def load_campaign(path: Path) -> CampaignConfig:
    """Read and check a campaign file; relative paths in it are taken from its own folder.

    Raises: ConfigError naming the file, each wrong field and what to do about it.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such campaign file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; name a campaign YAML file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must be a mapping of settings; see deployments/campaigns/miniature.yaml")
    try:
        config = CampaignConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {len(error.errors())} setting(s) refused\n{explain(error)}") from None
    return _anchored(config, path.resolve().parent)


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

    models = config.models.model_copy(
        update={"seed": fix(config.models.seed), "experts": {n: fix(p) for n, p in config.models.experts.items()}}
    )
    q = config.questions
    files = {f: fix(getattr(q, f)) for f in ("search_file", "validation_file", "test_file")}
    prompt = config.factory.prompt
    factory = config.factory.model_copy(update={"prompt": fix(prompt) if isinstance(prompt, Path) else prompt})
    store = config.store if isinstance(config.store, str) else fix(config.store)
    update = {"models": models, "questions": q.model_copy(update=files), "factory": factory, "store": store}
    return config.model_copy(update=update)
