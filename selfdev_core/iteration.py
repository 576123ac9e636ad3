"""One iteration of the loop, whoever runs its stages: generate → validate → merge → evaluate → pairs → DPO."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from pydantic import Field

from selfdev_core.config import CampaignConfig
from selfdev_core.errors import StoreError
from selfdev_core.evaluation.decoding import Decoding
from selfdev_core.factory.temperature import temperature_of
from selfdev_core.records import (
    Arm,
    Candidate,
    Cost,
    FactoryRef,
    GenerateManifest,
    ModelSet,
    QuestionSet,
    Record,
    Sample,
    Scorecard,
    TrainManifest,
    Verdict,
)
from selfdev_core.result import IterationResult
from selfdev_core.stages.executor import GENERATE, PAIRS, TRAIN, VALIDATE, Executor
from selfdev_core.stages.jobs import (
    GenerateJob,
    PairsJob,
    Program,
    TrainJob,
    ValidateJob,
    chunks,
)
from selfdev_core.store.references import Reference
from selfdev_core.turns import failures, merge_and_evaluate
from selfdev_core.workspace import Limits, Workspace


class CampaignPlan(Record):
    """A configuration with its files resolved to content: what every stage needs to make its jobs.

    `sealed` is the test split by digest only: nobody can load questions by it before the split is opened.
    """

    config: CampaignConfig
    models: ModelSet
    prompt: str
    decoding: Decoding
    search: QuestionSet
    sealed: QuestionSet

    @property
    def limits(self) -> Limits:
        sandbox = self.config.sandbox
        return Limits(seconds=sandbox.seconds, memory_gb=sandbox.memory_gb, device=sandbox.device)


class TargetPlan(Record):
    """Another model set for the finalists: `plan` has its models and questions in the place of the campaign's."""

    name: str
    plan: CampaignPlan
    validation: QuestionSet
    own_names: dict[str, str] = Field(description="Name by which programs find an expert → the expert's own name.")
    same_test: bool = Field(False, description="Its test questions are the campaign's own.")


class IterationSpec(Record):
    """Which iteration of which arm, from which factory. `train`: whether DPO makes a next factory."""

    plan: CampaignPlan
    arm: Arm
    ablation: str = Field(
        "", description="Name of the arm of an ablation: a trained arm whose plan differs in one part."
    )
    iteration: int
    factory: FactoryRef
    train: bool
    earlier: tuple[str, ...] = ()
    last: int | None = Field(None, description="The trained arm's last iteration, where a budget ended it early.")

    @property
    def name(self) -> str:
        """The arm's name."""
        return self.ablation or self.arm


class IterationRecord(Record):
    """An iteration's outcome as stored: the result for the report, the next factory, what each stage cost."""

    result: IterationResult
    factory: FactoryRef
    scorecards: tuple[Scorecard, ...]
    costs: dict[str, Cost]


class _Scored(NamedTuple):
    verdict: Verdict
    representative: str
    score: float


def run_iteration(spec: IterationSpec, executor: Executor, workspace: Workspace) -> str:
    """Run one iteration and store its IterationRecord; returns its key. `spec.earlier` are the keys of this arm so far."""
    resources = spec.plan.config.resources
    earlier = [read_iteration(key, workspace) for key in spec.earlier]
    spent: dict[str, Cost] = {}

    def add(stage: str, *made: Cost) -> None:
        spent[stage] = sum(made, spent.get(stage, Cost()))

    drawn = _generate(spec, executor, workspace)
    add("generate", *(manifest.cost for manifest in drawn))
    samples = [sample for manifest in drawn for sample in manifest.samples]
    distinct = {sample.algorithm_id: sample for sample in reversed(samples)}
    programs = [Program(algorithm_id=s.algorithm_id, source=s.source) for s in _in_order(samples, distinct)]

    jobs = [
        ValidateJob(models=spec.plan.models, limits=spec.plan.limits, programs=chunk)
        for chunk in chunks(programs, resources.chunk_for(len(programs)), resources.workers)
    ]
    workspace.progress.stage(_label(spec, "validate"), len(programs))
    checked = executor.map(VALIDATE, jobs)
    add("validate", *(manifest.cost for manifest in checked))
    verdicts = {verdict.algorithm_id: verdict for manifest in checked for verdict in manifest.verdicts}

    # One program of each fingerprint is evaluated; one met in an earlier iteration of this arm is not evaluated again.
    known = {c.verdict.fingerprint: c for one in earlier for c in one.result.candidates if c.verdict.accepted}
    first: dict[str, Program] = {}
    for program in programs:
        verdict = verdicts[program.algorithm_id]
        if verdict.accepted and verdict.fingerprint not in known:
            first.setdefault(verdict.fingerprint, program)
    merged, answered = merge_and_evaluate(spec.plan, _label(spec, ""), list(first.values()), executor, workspace)
    add("merge", *(manifest.cost for manifest in merged))
    add("evaluate", *(manifest.cost for manifest in answered))
    failed = failures(merged)
    cards = {card.subject: card for manifest in answered for card in manifest.scorecards}

    def scored(program: Program) -> _Scored:
        verdict = verdicts[program.algorithm_id]
        if not verdict.accepted:
            return _Scored(verdict, "", 0.0)
        if verdict.fingerprint in known:
            before = known[verdict.fingerprint]
            return _Scored(verdict, before.representative, before.score)
        leader = first[verdict.fingerprint].algorithm_id
        if leader in failed:
            return _Scored(failed[leader].model_copy(update={"algorithm_id": program.algorithm_id}), "", 0.0)
        return _Scored(verdict, leader, cards[leader].score)

    copies = Counter(sample.algorithm_id for sample in samples)
    candidates = []
    for program in programs:
        outcome = scored(program)
        candidates.append(
            Candidate(
                algorithm_id=program.algorithm_id,
                source=program.source,
                iteration=spec.iteration,
                copies=copies[program.algorithm_id],
                verdict=outcome.verdict,
                representative=outcome.representative,
                score=outcome.score,
            )
        )
    rounds = (*(one.result.candidates for one in earlier), tuple(candidates))
    pairs, note, trained = _learn(spec, rounds, executor, workspace) if spec.train else (0, "", None)
    if trained is not None:
        add("dpo", trained.cost)
    result = _summary(spec, samples, candidates, len(cards), pairs, note, trained)
    record = IterationRecord(
        result=result,
        factory=trained.factory if trained else spec.factory,
        scorecards=tuple(cards.values()),
        costs=spent,
    )
    key = record.digest
    workspace.refer([Reference("iterations", key)])
    workspace.store.write("iterations", key, record)
    return key


def read_iteration(key: str, workspace: Workspace) -> IterationRecord:
    """A stored iteration. Raises StoreError when it is gone, CorruptRecord when it is damaged."""
    record = workspace.store.read("iterations", key, IterationRecord)
    if record is None:
        raise StoreError(
            f"iteration record {key[:12]} is gone from the store; run the same command again to make it anew"
        )
    return record


def _generate(spec: IterationSpec, executor: Executor, workspace: Workspace) -> list[GenerateManifest]:
    factory = spec.plan.config.factory
    per_task = max(factory.batch_size, -(-factory.samples // 8))  # a task draws whole batches; at most 8 tasks
    jobs = [
        _generate_job(spec, spec.factory, start, min(per_task, factory.samples - start), spec.iteration)
        for start in range(0, factory.samples, per_task)
    ]
    workspace.progress.stage(_label(spec, "generate"), len(jobs))
    made = executor.map(GENERATE, jobs)
    workspace.progress.advance(len(jobs))
    return made


def _generate_job(spec: IterationSpec, factory: FactoryRef, start: int, count: int, iteration: int) -> GenerateJob:
    config = spec.plan.config.factory
    return GenerateJob(
        factory=factory.itself,
        prompt=spec.plan.prompt,
        start=start,
        count=count,
        temperature=_temperature(spec, iteration),
        top_p=config.top_p,
        max_new_tokens=config.max_new_tokens,
        batch_size=config.batch_size,
        seed=(spec.plan.config.seed * 1_000_003 + iteration * 10_007) % 2**62,
        engine=spec.plan.decoding.engine,
    )


def _temperature(spec: IterationSpec, iteration: int) -> float:
    """Rounds that the untrained arm adds after the last iteration are drawn at the last iteration's temperature."""
    config = spec.plan.config.factory
    return temperature_of(config.temperature, min(iteration, spec.last or config.iterations))


def _learn(
    spec: IterationSpec, rounds: tuple[tuple[Candidate, ...], ...], executor: Executor, workspace: Workspace
) -> tuple[int, str, TrainManifest | None]:
    """Pairs, then DPO: (number of pairs, a note, what training did or None when there was nothing to learn from)."""
    config = spec.plan.config
    seed = (config.seed * 1_000_003 + spec.iteration) % 2**32
    job = PairsJob(settings=config.preference, prompt=spec.plan.prompt, rounds=rounds, seed=seed)
    workspace.progress.stage(_label(spec, "pairs"), 1)
    (made,) = executor.map(PAIRS, [job])
    if not made.pairs:
        workspace.progress.note(f"{_whose(spec)}: no update, {made.note}")
        return 0, made.note, None
    guard = _generate_job(spec, spec.factory, 5_000, config.dpo.guard_samples, spec.iteration + 1)
    train = TrainJob(
        factory=spec.factory.itself,
        prompt=spec.plan.prompt,
        pairs=made.pairs,
        settings=config.dpo,
        guard=guard,
        models=spec.plan.models,
        limits=spec.plan.limits,
        seed=seed,
    )
    workspace.progress.stage(_label(spec, "dpo"), 1)
    (trained,) = executor.map(TRAIN, [train])
    note = made.note
    if trained.step_share < 1.0:
        kept = f"shortened to {trained.step_share:.0%}" if trained.step_share else "skipped"
        note = f"update {kept} to keep programs valid ({trained.valid_share:.0%} of fresh samples are)"
        workspace.progress.note(f"{_whose(spec)}: {note}")
    return len(made.pairs), note, trained


def _summary(
    spec: IterationSpec,
    samples: list[Sample],
    candidates: list[Candidate],
    evaluated: int,
    pairs: int,
    note: str,
    trained: TrainManifest | None,
) -> IterationResult:
    by_id = {candidate.algorithm_id: candidate for candidate in candidates}
    drawn = [by_id[sample.algorithm_id] for sample in samples]
    valid = [candidate for candidate in drawn if candidate.verdict.accepted]
    return IterationResult(
        arm=spec.arm,
        iteration=spec.iteration,
        temperature=_temperature(spec, spec.iteration),
        samples=len(samples),
        valid_share=len(valid) / len(samples),
        distinct_share=len(by_id) / len(samples),
        distinct_functions=len({candidate.representative for candidate in valid}),
        evaluated=evaluated,
        sample_scores=tuple(candidate.score for candidate in drawn),
        reasons=dict(Counter(c.verdict.reason for c in drawn if not c.verdict.accepted)),
        candidates=tuple(candidates),
        factory_sha256=spec.factory.sha256,
        pairs=pairs,
        dpo_skipped=bool(trained and trained.step_share == 0.0),
        dpo_losses=trained.losses if trained else (),
        dpo_note=note,
    )


def _in_order(samples: list[Sample], distinct: dict[str, Sample]) -> list[Sample]:
    return [sample for sample in samples if distinct[sample.algorithm_id] is sample]


def _label(spec: IterationSpec, stage: str) -> str:
    return f"{spec.name} {spec.iteration} · {stage}"


def _whose(spec: IterationSpec) -> str:
    return f"{spec.ablation} iteration {spec.iteration}".lstrip()
