"""Use a discovered program on checkpoints: `selfdev apply` on any model set, `selfdev export` on the campaign's own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from selfdev_core.algorithm.canonical import algorithm_id
from selfdev_core.config import CampaignConfig
from selfdev_core.errors import ConfigError, SelfdevError
from selfdev_core.merging.checkpoints import open_set
from selfdev_core.merging.fit import check_finite, check_headers
from selfdev_core.merging.hub import Source, is_repository
from selfdev_core.merging.merge import merge_into, write_bundles
from selfdev_core.merging.saved import ModelFolder
from selfdev_core.merging.scope import merged_names
from selfdev_core.prepare import model_sources
from selfdev_core.records import Level, Scope
from selfdev_core.result import CampaignResult, Contender
from selfdev_core.sandbox import layers
from selfdev_core.sandbox.bundle import is_big
from selfdev_core.sandbox.client import Sandbox
from selfdev_core.sandbox.validate import validate
from selfdev_core.sandbox.worker import Worker
from selfdev_core.scratch import Scratch


def find_program(result: CampaignResult, wanted: str) -> Contender:
    """A program of a campaign by its id (or the beginning of one), its label, or the word `winner`.

    Raises: ConfigError naming what was asked for when there is none or more than one.
    """
    if wanted == "winner":
        if not result.winner:
            raise ConfigError(f"campaign {result.name} has no winner yet; run it to its end")
        wanted = result.winner
    rows = {row.subject: row for row in result.leaderboard if row.source}
    for one in result.iterations:
        for c in one.candidates:
            row = Contender(
                subject=c.algorithm_id, label=f"{one.arm} {c.algorithm_id}", kind="candidate", source=c.source
            )
            rows.setdefault(c.algorithm_id, row)
    found = [row for key, row in rows.items() if key == wanted or row.label == wanted]
    found = found or [row for key, row in rows.items() if key.startswith(wanted)]
    if len(found) != 1:
        what = "no program" if not found else f"{len(found)} programs"
        raise ConfigError(f"{what} of campaign {result.name} match {wanted!r}; `selfdev show {result.name}` lists them")
    return found[0]


def apply_program(
    source: str,
    seed: Source,
    experts: dict[str, Source],
    scope: Scope,
    out: Path,
    seconds: float,
    memory_gb: float,
    least_level: Level | None = None,
    note: Callable[[str], None] | None = None,
) -> str:
    """Merge with a program and save a normal Hugging Face folder; returns the digest of the merged weights.

    Memory stays flat in the size of the models: parameters are merged and written one by one. `note` hears what ought to be
    known of the models.
    Raises: CheckpointError when the models do not fit or `out` exists; SelfdevError naming the verdict when the program
    fails on these models; SandboxError when the machine gives less than `least_level`.
    """
    base, others = open_set(seed.folder, {name: source.folder for name, source in experts.items()})
    for warning in check_headers(base, others, scope):
        if note is not None:
            note(f"note: {warning}")
    name = algorithm_id(source)
    big = is_big({name: base.shapes[name] for name in merged_names(base, scope)}, others)
    with (
        Scratch() as scratch,
        ModelFolder(base, out) as folder,
        Worker(layers.grant(least_level), keep_memory=big) as worker,  # loads torch while this process does
    ):
        bundles = write_bundles(base, others, scope, scratch.path)
        with Sandbox(bundles, seconds, memory_gb, worker=worker) as sandbox:
            sandbox.warm()
            check_finite(base, others, scope, note)
            verdict = validate(name, source, sandbox)
            if verdict.accepted:
                record = merge_into(folder, name, source, base, sandbox)
                verdict = record.verdict
            if not verdict.accepted:
                raise SelfdevError(f"program {name} cannot merge these models: {verdict.reason}, {verdict.detail}")
            folder.describe(_model_card(name, source, seed, experts, scope, record.weights_sha256))
    return record.weights_sha256


def _model_card(name: str, source: str, seed: Source, experts: dict[str, Source], scope: Scope, weights: str) -> str:
    """README.md of a merged model, with the front matter that the Hub reads."""
    on_the_hub = [one.name.partition("@")[0] for one in (seed, *experts.values()) if is_repository(one.name)]
    front = ["---", "library_name: transformers", "tags: [merge, selfdev]"]
    front += ["base_model:", *(f"- {one}" for one in dict.fromkeys(on_the_hub))] if on_the_hub else []
    rows = [f"| {label} | {one.name} |" for label, one in {"seed": seed, **experts}.items()]
    what = "the MLP blocks" if scope == "mlp" else "all parameters"
    return "\n".join(
        [
            *front,
            "---",
            "",
            f"# {_called(seed)}, merged",
            "",
            f"Made by the program `{name}` with selfdev: for each parameter it is given the experts' task vectors (expert − "
            f"seed), and its result is added to the seed. Merged: {what}; the rest is the seed's, as are config and tokenizer.",
            f"SHA-256 of the merged tensors: `{weights[:16]}…`.",
            "",
            "| model | from |",
            "| --- | --- |",
            *rows,
            "",
            "```python",
            source.rstrip(),
            "```",
            "",
        ]
    )


def _called(seed: Source) -> str:
    return seed.name.partition("@")[0] if is_repository(seed.name) else seed.folder.name


def export_winner(result: CampaignResult, wanted: str, out: Path) -> Path:
    """Write `model/` (merged), `program.py` and `README.md` (card) into `out`, which comes to be whole or not at all; returns it.

    Raises: ConfigError when `out` exists or cannot be written, and what `apply_program` raises.
    """
    if out.exists():
        raise ConfigError(f"{out}: exists already; name a new folder with --out")
    row = find_program(result, wanted)
    config = CampaignConfig.model_validate(result.config)
    seed, experts = model_sources(config)
    limits = config.sandbox.model_dump(exclude={"device"})
    try:
        with Scratch(out) as scratch:
            made = scratch.path / out.name
            weights = apply_program(row.source, seed, experts, config.models.scope, made / "model", **limits)
            (made / "program.py").write_text(row.source.rstrip() + "\n", encoding="utf-8")
            (made / "README.md").write_text(_card(result, row, weights), encoding="utf-8")
            made.rename(out)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error}; name another folder with --out") from error
    return out


def _card(result: CampaignResult, row: Contender, weights: str) -> str:
    scores = [
        f"| {split} | {card.told} | {len(card.outcomes)} | {card.unparsable:.1%} |"
        for split in ("search", "validation", "test")
        if (card := getattr(row, split)) is not None
    ]
    rivals = [
        f"- against {c.label}: {c.difference.value:+.1%} [{c.difference.low:+.1%}, {c.difference.high:+.1%}], "
        f"McNemar p = {c.p_value:.3g}"
        for c in (result.comparisons if row.subject == result.winner else ())
    ]
    return "\n".join(
        [
            f"# {result.name}: merged model",
            "",
            f"Merged by the program `{row.subject}` (`program.py`), found by the campaign `{result.name}`, "
            f"exported {datetime.now(UTC).date().isoformat()}. SHA-256 of the merged tensors: `{weights[:16]}…`.",
            "",
            "| split | right answers | questions | unparsable |",
            "| --- | --- | --- | --- |",
            *scores,
            "",
            *(["On the test split, paired, with 95 % intervals:", "", *rivals, ""] if rivals else []),
            f"The test split was opened {result.test_openings} time(s). The search score is the one the program was "
            "selected on and is too high for that reason; quote validation or test.",
            "",
        ]
    )
