"""What the miniature reads while it trains: drills, programs and worked problems, packed into rows of tokens.

Only what the model must produce is learned from: a question's text, an equation's left side and the fixed prompt
carry no loss, so a short training run spends itself on answers and programs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from selfdev_core.miniature.drills import chain, equation
from selfdev_core.miniature.problems import draw
from selfdev_core.miniature.programs import PROMPT, sample_program
from selfdev_core.miniature.skills import Skill

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

ROW_TOKENS, ROWS = 192, 16
IGNORED = -100

_EQUATIONS_PER_DRILL = 6
_AVERAGE_TOKENS = {"drill": 45, "chain": 40, "program": 65, "problem": 55}

# pieces of text, each with whether it is learned from; the last one is, and the end token follows it
Document = list[tuple[str, bool]]


class Batch(NamedTuple):
    """Token ids and labels, int64 of shape (`ROWS`, `ROW_TOKENS`); labels are `IGNORED` where nothing is learned."""

    ids: torch.Tensor
    labels: torch.Tensor


def prompt_of(question: str) -> str:
    """The evaluation prompt of a question."""
    return f"Q: {question}\nA:"


def drill(rng: random.Random) -> Document:
    """A few bare equations, one a line."""
    pieces: Document = []
    for index in range(_EQUATIONS_PER_DRILL):
        left, result = equation(rng)
        pieces += [(f"\n{left}" if index else left, False), (result, True)]
    return pieces


def wordless(rng: random.Random) -> Document:
    """A worked problem without words."""
    question, solution = chain(rng)
    return [(prompt_of(question), False), (f" {solution}", True)]


def program(rng: random.Random) -> Document:
    """A program of the grammar after the factory's prompt."""
    return [(PROMPT, False), (sample_program(rng).removeprefix(PROMPT), True)]


def problem(skills: Sequence[Skill]) -> Callable[[random.Random], Document]:
    """Worked problems of the training split, over these skills evenly."""

    def one(rng: random.Random) -> Document:
        question = draw(rng.choice(skills), "train", rng)
        return [(prompt_of(question.question), False), (f" {question.solution}", True)]

    return one


class Reader:
    """An endless stream of packed batches whose mixture of documents can be changed while it runs."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, skills: Sequence[Skill], seed: str) -> None:
        self._tokenizer = tokenizer
        self._rng = random.Random(seed)
        self._makers = {"drill": drill, "chain": wordless, "program": program, "problem": problem(skills)}

    def batch(self, shares: Mapping[str, float]) -> Batch:
        """The next batch; `shares` are shares of tokens by kind (drill, chain, program, problem)."""
        import torch

        kinds = list(shares)
        weights = [shares[kind] / _AVERAGE_TOKENS[kind] for kind in kinds]
        rows = [self._row(kinds, weights) for _ in range(ROWS)]
        ids = torch.tensor([[token for token, _ in row] for row in rows])
        labels = torch.tensor([[token if learned else IGNORED for token, learned in row] for row in rows])
        return Batch(ids, labels)

    def _row(self, kinds: list[str], weights: list[float]) -> list[tuple[int, bool]]:
        row: list[tuple[int, bool]] = []
        while len(row) < ROW_TOKENS:
            row += self._tokens(self._makers[self._rng.choices(kinds, weights)[0]](self._rng))
        return row[:ROW_TOKENS]

    def _tokens(self, document: Document) -> Iterator[tuple[int, bool]]:
        for text, learned in document:
            for token in self._tokenizer(text)["input_ids"]:
                yield token, learned
        yield self._tokenizer.eos_token_id, True
