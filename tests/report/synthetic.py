"""A made-up campaign with the shape of a real one: correlated answers, duplicates, rejects, and a human grid."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from selfdev_core.records import Arm, Candidate, Cost, OutcomeKind, Scorecard, Split, Verdict
from selfdev_core.result import (
    BudgetNote,
    CampaignResult,
    Comparison,
    Contender,
    Interval,
    IterationResult,
)
from selfdev_core.statistics.intervals import mcnemar_exact, mean_difference, paired_difference

SIZES: dict[Split, int] = {"search": 96, "validation": 256, "test": 1000}
REASONS = ("syntax-error", "exception", "wrong-shape", "time-limit", "forbidden-import", "not-finite")
SOURCE = '''import torch


def merge_models(model_dict, device):
    """Trust each expert where it is sure: weight by magnitude, keep the sign of the majority."""
    names = sorted(model_dict)
    stack = torch.stack([model_dict[name].to(device) for name in names])
    sign = torch.sign(stack.sum(dim=0))
    agree = (torch.sign(stack) == sign).float()
    weight = torch.softmax(stack.abs() / 0.35, dim=0) * agree
    # Where nobody agrees nothing is added: the seed's own weights stay.
    total = weight.sum(dim=0).clamp_min(1e-8)
    return 1.15 * (stack * weight).sum(dim=0) / total
'''


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Exam:
    """Answers of models of a given ability to questions of a given difficulty, so that scores are paired."""

    def __init__(self, seed: int = 7) -> None:
        self.generator = np.random.default_rng(seed)
        self.difficulty = {split: self.generator.normal(0, 1.1, size) for split, size in SIZES.items()}

    def card(self, subject: str, split: Split, ability: float, unparsable: float = 0.03) -> Scorecard:
        noise = self.generator.logistic(0, 0.55, SIZES[split])
        right = ability + noise > self.difficulty[split]
        broken = self.generator.random(SIZES[split]) < unparsable
        outcomes: list[OutcomeKind] = [
            "right" if r and not b else "unparsable" if b else "wrong" for r, b in zip(right, broken, strict=True)
        ]
        return Scorecard(
            subject=subject,
            split=split,
            questions_sha256=sha(split),
            outcomes=tuple(outcomes),
            tokens=41 * SIZES[split],
            seconds=1.7,
        )


def contender(
    exam: Exam, subject: str, label: str, kind: str, ability: float, splits: str = "svt", **more: Any
) -> Contender:
    cards = {s: exam.card(subject, s, ability, more.get("unparsable", 0.03)) for s in SIZES if s[0] in splits}
    source = more.get(
        "source",
        "" if kind == "model" else "def merge_models(model_dict, device):\n    return 0.4 * sum(model_dict.values())\n",
    )
    return Contender(subject=subject, label=label, kind=kind, source=source, **cards)


def iteration(arm: Arm, number: int, samples: int = 64, seed: int = 0) -> IterationResult:
    generator = np.random.default_rng([seed, number, arm == "trained"])
    skill = 0.11 * (number - 1) if arm == "trained" else 0.0
    valid_rate = min(0.94, 0.62 + 1.5 * skill)
    candidates, scores, reasons = [], [], dict.fromkeys(REASONS, 0)
    made: list[Candidate] = []
    for index in range(samples):
        if made and generator.random() < 0.12 + skill:
            again = made[int(generator.integers(len(made)))]
            candidates[candidates.index(again)] = again
            scores.append(again.score)
            if not again.verdict.accepted:
                reasons[again.verdict.reason] += 1
            continue
        name = f"a-{sha(f'{arm}{number}{index}{seed}')[:16]}"
        if generator.random() < valid_rate:
            raw = generator.normal(0.30 + skill * 0.55, 0.085 - 0.05 * skill)
            score = float(np.clip(round(raw * 96), 1, 70)) / 96
            verdict = Verdict(algorithm_id=name, reason="accepted", fingerprint=sha(f"{round(raw, 2)}{number}"))
        else:
            score, reason = 0.0, REASONS[int(generator.choice(6, p=[0.4, 0.25, 0.15, 0.08, 0.07, 0.05]))]
            verdict = Verdict(algorithm_id=name, reason=reason, detail="line 3: invalid syntax")  # type: ignore[arg-type]
            reasons[reason] += 1
        made.append(
            Candidate(
                algorithm_id=name,
                source=SOURCE,
                iteration=number,
                copies=1,
                verdict=verdict,
                representative=name,
                score=score,
            )
        )
        candidates.append(made[-1])
        scores.append(score)
    trains = arm == "trained" and number < 4
    return IterationResult(
        arm=arm,
        iteration=number,
        temperature=1.2 / (1 + 0.2 * (number - 1)),
        samples=samples,
        valid_share=1 - sum(reasons.values()) / samples,
        distinct_share=len(candidates) / samples,
        distinct_functions=len({c.verdict.fingerprint for c in candidates if c.verdict.accepted}),
        evaluated=sum(c.verdict.accepted for c in candidates),
        sample_scores=tuple(scores),
        reasons={k: v for k, v in reasons.items() if v},
        candidates=tuple(candidates),
        factory_sha256=sha(f"factory {arm} {number}"),
        pairs=128 if trains else 0,
        dpo_skipped=trains and number == 3,
        dpo_losses=(0.69, 0.61, 0.48, 0.41) if trains else (),
        dpo_note="valid share 0.79 of fresh samples is below the guard of 0.85" if trains and number == 3 else "",
    )


def campaign(winner: float = 0.25, expert: float = -0.15, human: float = 0.12, rounds: int = 4) -> CampaignResult:
    """A finished campaign; abilities are on the exam's scale (0 answers about half)."""
    exam = Exam()
    iterations = tuple(iteration(arm, t) for t in range(1, rounds + 1) for arm in ("trained", "untrained"))
    best = max((c for r in iterations if r.arm == "trained" for c in r.candidates), key=lambda c: c.score)
    subject = best.algorithm_id
    board = [
        contender(
            exam, subject, f"trained, iteration {best.iteration}, no. 17", "discovered-trained", winner, source=SOURCE
        ),
        *(
            contender(
                exam,
                f"a-{sha(f'f{i}')[:16]}",
                f"trained, iteration {1 + i % 4}, no. {i}",
                "discovered-trained",
                winner - 0.2 - 0.04 * i,
                "sv",
            )
            for i in range(7)
        ),
        contender(exam, "a-0123456789abcdef", "untrained, iteration 2, no. 40", "discovered-untrained", winner - 0.12),
        *(
            contender(
                exam,
                f"a-{sha(f'u{i}')[:16]}",
                f"untrained, iteration {1 + i % 4}, no. {i}",
                "discovered-untrained",
                winner - 0.3 - 0.05 * i,
                "sv",
            )
            for i in range(4)
        ),
        contender(exam, "human-ties-0.4-1.0", "TIES density 0.4, coefficient 1.0", "human", human),
        *(
            contender(
                exam,
                f"human-ta-{c}",
                f"task arithmetic {c}",
                "human",
                human - 0.1 - abs(c - 0.6),
                "sv" if c == 0.6 else "s",
            )
            for c in (0.2, 0.4, 0.6, 0.8, 1.0)
        ),
        *(
            contender(
                exam, f"human-dare-{c}", f"DARE drop 0.6, coefficient {c}", "human", human - 0.2 - abs(c - 0.6), "s"
            )
            for c in (0.4, 0.6, 0.8)
        ),
        contender(exam, "seed", "seed", "model", -0.9, unparsable=0.14),
        contender(exam, "multiply", "multiply", "model", expert),
        contender(exam, "subtract", "subtract", "model", expert - 0.25, "sv"),
        contender(exam, "fractions", "fractions", "model", expert - 0.4, "sv"),
    ]
    by_subject = {c.subject: c for c in board}
    rivals = [
        ("seed", "seed"),
        ("multiply", "multiply"),
        ("human-ties-0.4-1.0", "TIES density 0.4, coefficient 1.0"),
        ("a-0123456789abcdef", "untrained, iteration 2, no. 40"),
    ]
    comparisons = []
    for other, label in rivals:
        a, b = by_subject[subject].test, by_subject[other].test
        assert a and b
        comparisons.append(
            Comparison(against=other, label=label, difference=paired_difference(a, b), p_value=mcnemar_exact(a, b))
        )
    last = {r.arm: r for r in iterations if r.iteration == rounds}
    return CampaignResult(
        name="miniature",
        config={
            "name": "miniature",
            "seed": 0,
            "models": {"family": "arithmetic", "seed": None, "experts": {}, "scope": "mlp"},
            "questions": {"search": 96, "validation": 256, "test": 1000, "template": "Q: {question}\nA:"},
            "factory": {
                "iterations": rounds,
                "samples": 64,
                "temperature": {"schedule": "decay", "first": 1.2, "rate": 0.2},
            },
            "controls": {"untrained": True, "task_arithmetic": [0.2, 0.4, 0.6, 0.8, 1.0]},
        },
        finished=True,
        started_at="2026-11-20T22:58:01+00:00",
        ended_at="2026-11-20T23:41:40+00:00",
        conditions={
            "machine": "2 × x86-64 cores, 8 GiB",
            "python": "3.11.2",
            "torch": "2.13.0",
            "transformers": "5.23.0",
        },
        iterations=iterations,
        leaderboard=tuple(board),
        winner=subject,
        comparisons=tuple(comparisons),
        learned_gain=mean_difference(last["trained"].sample_scores, last["untrained"].sample_scores, seed=0),
        best_of_arms={"trained": 0.512, "untrained": 0.477},
        budget=BudgetNote(
            trained=sum(r.evaluated for r in iterations if r.arm == "trained"),
            untrained=sum(r.evaluated for r in iterations if r.arm == "untrained"),
            human=9,
        ),
        test_openings=1,
        costs={
            "generate": Cost(seconds=412.6, programs=512, tokens=61_440),
            "validate": Cost(seconds=96.2, programs=431),
            "merge": Cost(seconds=58.1, programs=298),
            "evaluate": Cost(seconds=1493.8, programs=298, questions=33_728, tokens=1_382_848),
            "dpo": Cost(seconds=540.3, tokens=98_304),
            "finalists": Cost(seconds=8.9, programs=13, questions=8_328, tokens=341_448),
        },
    )


def with_difference(result: CampaignResult, role_subject: str, low: float, high: float) -> CampaignResult:
    """The same campaign with the interval of one comparison replaced."""
    interval = Interval(value=(low + high) / 2, low=low, high=high)
    changed = tuple(
        c.model_copy(update={"difference": interval}) if c.against == role_subject else c for c in result.comparisons
    )
    return result.model_copy(update={"comparisons": changed})


def unfinished(rounds: int = 1, arms: tuple[Arm, ...] = ("trained",)) -> CampaignResult:
    """What is known while a campaign still runs."""
    return CampaignResult(
        name="miniature",
        config={},
        finished=False,
        started_at="2026-11-20T22:58:01+00:00",
        conditions={},
        iterations=tuple(iteration(arm, t) for t in range(1, rounds + 1) for arm in arms),
    )
