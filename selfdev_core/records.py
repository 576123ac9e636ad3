"""The data that flows between stages: frozen records that carry references, never tensors or weights.

Every record has a `digest`, the SHA-256 of its canonical JSON. Cache keys are made of these digests, so the same
work has the same key in every process and on every machine (`architecture`: two levels of memory).
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Split = Literal["search", "validation", "test"]
Scope = Literal["mlp", "all"]
OutcomeKind = Literal["right", "wrong", "unparsable"]
Arm = Literal["trained", "untrained"]
Level = Literal["strict", "standard", "process"]

Reason = Literal[
    "accepted",
    "syntax-error",
    "contract",
    "forbidden-import",
    "time-limit",
    "memory-limit",
    "exception",
    "exited",
    "crashed",
    "no-result",
    "wrong-type",
    "wrong-shape",
    "wrong-dtype",
    "not-finite",
    "mutated-inputs",
    "not-deterministic",
]
Flag = Literal["returns-input", "ignores-inputs", "large-constants", "memorised-by-name"]


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text in every process."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest_of(value: Any) -> str:
    """SHA-256 (64 hex digits) of the canonical JSON of plain data."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


class Record(BaseModel):
    """A frozen, strict record. Unknown fields are refused, so a foreign or poisoned record does not load."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    @property
    def digest(self) -> str:
        return digest_of(self.model_dump(mode="json"))


class Cost(Record):
    """What a piece of work took. `seconds` is wall time of the work itself, measured once, when it was really done."""

    seconds: float = 0.0
    programs: int = 0
    questions: int = 0
    tokens: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            seconds=self.seconds + other.seconds,
            programs=self.programs + other.programs,
            questions=self.questions + other.questions,
            tokens=self.tokens + other.tokens,
        )


class ModelRef(Record):
    """A checkpoint by content. `sha256` covers weights, config and tokenizer; where it lies is the workspace's affair."""

    name: str
    sha256: str


class ModelSet(Record):
    """Seed model, experts (their names are the keys of `model_dict`, in this order) and the merged scope."""

    seed: ModelRef
    experts: tuple[ModelRef, ...] = Field(min_length=1)
    scope: Scope


class QuestionSet(Record):
    """A block of questions of one split, stored by content."""

    split: Split
    sha256: str
    count: int = Field(gt=0)


class Sample(Record):
    """One program drawn from a factory: its algorithm id and where it came from."""

    algorithm_id: str
    source: str
    index: int
    tokens: int
    finished: bool = Field(description="False when sampling stopped at the token limit, not at the end-of-text token.")


class GenerateManifest(Record):
    """What `generate` produced: the samples of one chunk, in order."""

    samples: tuple[Sample, ...]
    temperature: float
    cost: Cost


class Verdict(Record):
    """Accepted, or one named reason. `fingerprint` groups programs that compute the same function on the probes.

    `flags` are notes on an accepted program that may not be what is looked for; they change nothing.
    """

    algorithm_id: str
    reason: Reason
    detail: str = ""
    fingerprint: str = ""
    flags: tuple[Flag, ...] = ()

    @property
    def accepted(self) -> bool:
        return self.reason == "accepted"


class ValidateManifest(Record):
    verdicts: tuple[Verdict, ...]
    cost: Cost


class Merged(Record):
    """One merged model: digest of its merged tensors, or the reason why the program failed on the real tensors."""

    algorithm_id: str
    verdict: Verdict
    weights_sha256: str = ""


class MergeManifest(Record):
    merged: tuple[Merged, ...]
    cost: Cost


class Tally(Record):
    """How many answers were right, wrong and unparsable."""

    right: int
    wrong: int
    unparsable: int

    @property
    def score(self) -> float:
        """Share of right answers, 0 to 1."""
        return self.right / (self.right + self.wrong + self.unparsable)


class Scorecard(Record):
    """Outcome per question, in the order of the question set."""

    subject: str = Field(description="Algorithm id, or the name of a plain model (seed or expert).")
    split: Split
    questions_sha256: str
    outcomes: tuple[OutcomeKind, ...]
    tokens: int
    seconds: float
    tallies: dict[str, Tally] = Field(
        default_factory=dict,
        description="How the same answers fare when read strictly and flexibly; empty where a grader reads in one way.",
    )

    @property
    def score(self) -> float:
        """Share of right answers, 0 to 1."""
        return self.outcomes.count("right") / len(self.outcomes)

    @property
    def unparsable(self) -> float:
        """Share of answers in which no final answer could be found, 0 to 1."""
        return self.outcomes.count("unparsable") / len(self.outcomes)

    @property
    def otherwise(self) -> str:
        """The score by any reading that gives another than the score: `strict 41.0%`; empty when there is none."""
        return ", ".join(f"{way} {one.score:.1%}" for way, one in self.tallies.items() if one.score != self.score)

    @property
    def told(self) -> str:
        """The score as a percentage, and the score by any reading that gives another: `52.0% (strict 41.0%)`."""
        return f"{self.score:.1%}" + (f" ({self.otherwise})" if self.otherwise else "")


class EvaluateManifest(Record):
    scorecards: tuple[Scorecard, ...]
    cost: Cost


class Candidate(Record):
    """One distinct program of an iteration with all that is known of it."""

    algorithm_id: str
    source: str
    iteration: int
    copies: int = Field(description="How many samples of this iteration had this algorithm id.")
    verdict: Verdict
    representative: str = Field(default="", description="The algorithm of the same fingerprint that was evaluated.")
    score: float = Field(default=0.0, description="Search score of the representative; 0 for an invalid program.")


class PreferencePair(Record):
    chosen: str
    rejected: str
    chosen_id: str
    rejected_id: str
    chosen_score: float
    rejected_score: float


class PairsManifest(Record):
    strategy: str
    pairs: tuple[PreferencePair, ...]
    note: str = ""


class FactoryRef(Record):
    """An algorithm factory by content: a whole checkpoint, or an adapter (LoRA) on the model `base`.

    `parent` is the factory it was trained from.
    """

    sha256: str
    parent: str = ""
    base: str = Field(
        "",
        exclude_if=lambda base: not base,
        description="Digest of the model that the adapter belongs to; empty for a whole checkpoint.",
    )

    @property
    def itself(self) -> FactoryRef:
        """Without its parent, which changes nothing that it writes: so it stands in jobs."""
        return FactoryRef(sha256=self.sha256, base=self.base)


class TrainManifest(Record):
    """What DPO did. `step_share` of the update was kept (1, ½, ¼ or 0) so that `valid_share` of fresh samples are valid."""

    factory: FactoryRef
    step_share: float
    valid_share: float
    losses: tuple[float, ...]
    reward_margins: tuple[float, ...]
    cost: Cost
