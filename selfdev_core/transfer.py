"""Transfer: the finalists of a finished campaign, unchanged, on a model set that the search never saw.

Human-designed algorithms are tuned anew there: their grids on that set's search questions, the best point of each method on
its validation questions. Discovered programs are not: nothing about them is chosen on this set. Its test split is therefore
opened for the campaign's own winner (and its best untrained program), whatever else does well here, beside the seed, the best
expert and the best human-designed algorithm by this set's validation. The opening is written to a ledger of its own, which
goes by the campaign and the models: another name for the same set opens no fresh seal.

The paper applies its programs "not re-optimised" to other experts in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import Field

from selfdev_core.assemble import load_result, save_result, with_transfer
from selfdev_core.baselines import Scorer, in_order, merge_verdicts, search_baselines
from selfdev_core.errors import StoreError
from selfdev_core.iteration import TargetPlan
from selfdev_core.openings import read_openings
from selfdev_core.prepare import Prepared, open_test_split
from selfdev_core.records import ModelRef, Record, Scorecard, Verdict, digest_of
from selfdev_core.result import TRANSFERS, CampaignResult, Comparison, Contender, TransferResult, TransferRow
from selfdev_core.stages.executor import Executor
from selfdev_core.stages.jobs import Program
from selfdev_core.store.references import Reference
from selfdev_core.workspace import Workspace, workspace_of


class TransferSpec(Record):
    """What is taken where: the campaign's finalists (both arms, best first), its winner and its best untrained program."""

    target: TargetPlan
    finalists: tuple[Contender, ...]
    winner: str
    untrained: str = ""
    stopped_after: int = Field(0, description="Iterations after which a budget had ended the search; 0: it was whole.")


def transfer_spec(result: CampaignResult, target: TargetPlan) -> TransferSpec:
    """What of a finished campaign with a winner is taken to a target."""
    untrained = next((one.against for one in result.comparisons if one.label == "best untrained"), "")
    return TransferSpec(
        target=target,
        finalists=tuple(
            row.model_copy(update={"search": None, "validation": None, "test": None})
            for row in result.leaderboard
            if row.kind.startswith("discovered") and row.validation is not None
        ),
        winner=result.winner,
        untrained=untrained,
        stopped_after=result.stopped_by.iterations if result.stopped_by else 0,
    )


def run_transfer(spec: TransferSpec, executor: Executor, workspace: Workspace) -> str:
    """Measure on the target and store the TransferResult; returns its key."""
    made = _Transfer(spec, executor, workspace).result()
    key = made.digest
    workspace.refer([Reference(TRANSFERS, key)])
    workspace.store.write(TRANSFERS, key, made)
    return key


def read_transfer(key: str, workspace: Workspace) -> TransferResult:
    """A stored transfer. Raises StoreError when it is gone, CorruptRecord when it is damaged."""
    made = workspace.store.read(TRANSFERS, key, TransferResult)
    if made is None:
        raise StoreError(
            f"transfer record {key[:12]} is gone from the store; run the same command again to make it anew"
        )
    return made


def carry_over(ready: Prepared, carry: Callable[[TransferSpec], str]) -> CampaignResult:
    """Run every transfer, whoever runs its stages, and put each into the campaign's result and report."""
    workspace = workspace_of(ready.settings)
    result = load_result(ready.plan.config.name)
    with workspace.ledger.run():
        for target in ready.targets:
            made = carry(transfer_spec(result, target))
            result = with_transfer(result, read_transfer(made, workspace))
            save_result(result)
    return result


class _Transfer:
    """One target: verdicts, scores on search, validation and test, and the rows made of them."""

    def __init__(self, spec: TransferSpec, executor: Executor, workspace: Workspace) -> None:
        self._spec, self._workspace = spec, workspace
        self._plan = spec.target.plan
        self._step = f"transfer {spec.target.name}"
        self._scorer = Scorer(self._plan, executor, workspace, self._step)
        self._plain: tuple[ModelRef, ...] = (self._plan.models.seed, *self._plan.models.experts)
        self._rows: dict[str, TransferRow] = {}

    def result(self) -> TransferResult:
        spec, plan = self._spec, self._plan
        found = [Program(algorithm_id=row.subject, source=row.source) for row in spec.finalists]
        verdicts = self._verdicts(found)
        baselines = search_baselines(self._scorer)
        for row in spec.finalists:
            self._rows[row.subject] = TransferRow(**(row.model_dump() | {"verdict": verdicts[row.subject]}))
        for key, row in baselines.rows.items():
            label = spec.target.own_names.get(key, row.label)
            self._rows.setdefault(key, TransferRow(**(row.model_dump() | {"label": label})))
        best_human = baselines.best_of_methods
        entrants = {program.algorithm_id: program for program in (*found, *best_human)}
        able = [program for key, program in entrants.items() if key not in verdicts or verdicts[key].accepted]
        self._put("validation", self._scorer.score("validation", able, self._plain, spec.target.validation))
        comparisons, openings = self._test([program.algorithm_id for program in best_human])
        return TransferResult(
            name=spec.target.name,
            models=plan.config.models.model_dump(mode="json"),
            questions=plan.config.questions.model_dump(mode="json"),
            names=spec.target.own_names,
            winner=spec.winner,
            finalists=tuple(row.subject for row in spec.finalists),
            rows=in_order(self._rows),
            comparisons=comparisons,
            human=baselines.human,
            test_openings=openings,
            same_test=spec.target.same_test,
            cost=self._scorer.cost,
        )

    def _verdicts(self, programs: list[Program]) -> dict[str, Verdict]:
        self._workspace.progress.stage(f"{self._step} · merge", len(programs))
        verdicts = merge_verdicts(programs, self._scorer)
        for key, verdict in verdicts.items():
            if not verdict.accepted:
                self._workspace.progress.note(
                    f"{self._step}: program {key} cannot merge these models: {verdict.reason} {verdict.detail}"
                )
        return verdicts

    def _put(self, split: str, cards: dict[str, Scorecard]) -> None:
        self._rows = {
            key: row.model_copy(update={split: cards[key]}) if key in cards else row for key, row in self._rows.items()
        }

    def _standing(self, subject: str) -> tuple[float, float]:
        row = self._rows[subject]
        return (row.validation.score if row.validation else -1.0, row.search.score if row.search else -1.0)

    def _test(self, best_human: Sequence[str]) -> tuple[tuple[Comparison, ...], int]:
        """Open the test split for the winner and what it is compared with; not at all when the winner cannot merge here."""
        from selfdev_core.statistics.intervals import mcnemar_exact, paired_difference

        spec, workspace, ledger = self._spec, self._workspace, self._ledger()
        winner = self._rows[spec.winner]
        if winner.validation is None:
            return (), len(read_openings(workspace.store, ledger).openings)
        rivals = {"seed": "seed", "best expert": max((ref.name for ref in self._plain[1:]), key=self._standing)}
        if best_human:
            rivals["best human-designed"] = max(best_human, key=self._standing)
        if spec.untrained and self._rows[spec.untrained].validation is not None:
            rivals["best untrained"] = spec.untrained
        asked = tuple(rivals.values())
        test = open_test_split(self._plan, spec.winner, asked, workspace, spec.stopped_after, ledger)
        contestants = dict.fromkeys((spec.winner, *asked))
        programs = [
            Program(algorithm_id=key, source=self._rows[key].source) for key in contestants if self._rows[key].source
        ]
        plain = tuple(model for model in self._plain if model.name in contestants)
        tested = self._scorer.score("test", programs, plain, test)
        self._put("test", tested)
        comparisons = tuple(
            Comparison(
                against=subject,
                label=label,
                difference=paired_difference(tested[spec.winner], tested[subject]),
                p_value=mcnemar_exact(tested[spec.winner], tested[subject]),
            )
            for label, subject in rivals.items()
        )
        return comparisons, len(read_openings(workspace.store, ledger).openings)

    def _ledger(self) -> str:
        """Where openings are numbered: by campaign and content of the models. No campaign's name holds a slash."""
        models = self._plan.models
        content = digest_of([models.seed.sha256, sorted(ref.sha256 for ref in models.experts)])
        return f"{self._plan.config.name}/{content}"
