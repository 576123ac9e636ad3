"""Puts a campaign's stored pieces together into the one result that report, `show` and `export` read."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from selfdev_core.ablation import Ablation
from selfdev_core.budget import unshared
from selfdev_core.config import CampaignConfig, content_of
from selfdev_core.errors import ConfigError
from selfdev_core.finalists import Finals
from selfdev_core.home import campaign_folder as campaign_folder
from selfdev_core.home import replace_text, selfdev_home
from selfdev_core.iteration import CampaignPlan, IterationRecord
from selfdev_core.openings import read_openings
from selfdev_core.records import Cost, digest_of
from selfdev_core.result import BudgetNote, CampaignResult, Interval, Stop, TransferResult
from selfdev_core.statistics.intervals import mean_difference
from selfdev_core.store.artifacts import ArtifactStore

_LIBRARIES = ("torch", "transformers", "trl", "prefect")


def assemble(
    plan: CampaignPlan,
    trained: Sequence[IterationRecord],
    untrained: Sequence[IterationRecord],
    finals: Finals | None,
    earlier: CampaignResult | None,
    store: ArtifactStore,
    stop: Stop | None = None,
    ablation: Ablation | None = None,
) -> CampaignResult:
    """The result so far; without `finals` it is marked unfinished. `earlier`: what an earlier run of it left; `stop`: the
    cap that ended the search."""
    ablation = ablation or Ablation()
    ended = earlier is not None and earlier.finished and earlier.stopped_by == stop  # found again, not gone on with
    evaluated = [sum(len(one.scorecards) for one in arm) for arm in (trained, untrained)]
    openings = read_openings(store, plan.config.name).openings
    return CampaignResult(
        name=plan.config.name,
        config=plan.config.model_dump(mode="json"),
        finished=finals is not None,
        started_at=earlier.started_at if earlier else now(),
        ended_at="" if finals is None else earlier.ended_at if earlier and ended else now(),
        conditions=conditions(),
        iterations=tuple(one.result for one in (*trained, *untrained)),
        leaderboard=finals.leaderboard if finals else (),
        winner=finals.winner if finals else "",
        comparisons=finals.comparisons if finals else (),
        learned_gain=_learned_gain(plan, trained, untrained),
        best_of_arms=finals.best_of_arms if finals else {},
        budget=BudgetNote(trained=evaluated[0], untrained=min(evaluated), human=finals.human if finals else 0),
        stopped_by=stop,
        test_openings=len(openings),
        ablation=ablation.arms,
        transfers=kept_transfers(plan.config, finals.winner if finals else "", earlier),
        costs=_costs(unshared(trained, untrained, ablation.rounds), finals, ablation),
    )


def kept_transfers(config: CampaignConfig, winner: str, earlier: CampaignResult | None) -> tuple[TransferResult, ...]:
    """Transfers that `selfdev transfer` added to an earlier result and that are still of this winner."""
    found = earlier.transfers if earlier and winner else ()
    return tuple(one for one in found if one.winner == winner and one.name not in config.transfer)


def with_transfer(result: CampaignResult, made: TransferResult) -> CampaignResult:
    """The result with one more transfer, in the place of an earlier one of that name."""
    transfers = tuple(one for one in result.transfers if one.name != made.name)
    return result.model_copy(update={"transfers": (*transfers, made)})


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def conditions() -> dict[str, str]:
    """Machine and library versions."""
    found = {name: version(name) for name in _LIBRARIES}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    machine = f"{platform.system()} {platform.machine()}, {cores} cores"
    return {"machine": machine, "python": platform.python_version(), **found}


def _learned_gain(
    plan: CampaignPlan, trained: Sequence[IterationRecord], untrained: Sequence[IterationRecord]
) -> Interval | None:
    """Mean score of fresh samples in the last iteration both arms have, trained minus untrained (from iteration 2 on)."""
    last = min(len(trained), len(untrained), plan.config.factory.iterations)
    if last < 2:
        return None
    ours, theirs = (arm[last - 1].result.sample_scores for arm in (trained, untrained))
    return mean_difference(ours, theirs, seed=plan.config.seed)


def _costs(drawn: Sequence[IterationRecord], finals: Finals | None, ablation: Ablation) -> dict[str, Cost]:
    """Cost per stage; `drawn` are the iterations of all arms, those that they share once."""
    total: dict[str, Cost] = {}
    for one in drawn:
        for stage, cost in one.costs.items():
            total[stage] = total.get(stage, Cost()) + cost
    if finals:
        total["finalists"] = finals.cost + ablation.cost
    return total


def save_result(result: CampaignResult) -> Path:
    """Write result.json and report.html into the campaign's folder; returns the report's path."""
    from selfdev_core.report import render_report

    folder = campaign_folder(result.name)
    replace_text(folder / "result.json", result.model_dump_json(indent=1))
    replace_text(folder / "report.html", render_report(result))
    return folder / "report.html"


def set_aside(config: CampaignConfig) -> Path | None:
    """Keep a finished result of another configuration under this name beside the one that is to come; None if there is none.

    Both files get a part of the digest of what they are the result of: `result-DIGEST.json`, `report-DIGEST.html`.
    """
    try:
        found = load_result(config.name)
    except ConfigError:
        return None
    content = content_of(found.config)
    if not found.finished or content == content_of(config.model_dump(mode="json")):
        return None
    folder, mark = campaign_folder(config.name), digest_of(content)[:8]
    for name, kind in (("report", "html"), ("result", "json")):
        with suppress(FileNotFoundError):  # another run of the campaign may be first
            os.replace(folder / f"{name}.{kind}", folder / f"{name}-{mark}.{kind}")
    return folder / f"result-{mark}.json"


def load_result(name: str) -> CampaignResult:
    """The saved result of a campaign.

    Raises: ConfigError when there is none, or when the file is damaged.
    """
    path = campaign_folder(name) / "result.json"
    try:
        return CampaignResult.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError:
        known = sorted(p.parent.name for p in (selfdev_home() / "campaigns").glob("*/result.json"))
        hint = f"known campaigns: {', '.join(known)}" if known else "no campaign has been run yet; try `selfdev demo`"
        raise ConfigError(f"no results of a campaign named {name!r} in {selfdev_home()}; {hint}") from None
    except ValueError as error:
        raise ConfigError(
            f"{path}: is damaged ({str(error).splitlines()[0]}); run the campaign again, it is cached"
        ) from None


def earlier_result(config: CampaignConfig) -> CampaignResult | None:
    """What an earlier run of this configuration left, finished or not; it may have had another budget or other resources."""
    try:
        result = load_result(config.name)
    except ConfigError:
        return None
    return result if content_of(result.config) == content_of(config.model_dump(mode="json")) else None
