"""How well a member calculates and solves: teacher-forced for speed while training, greedy for what is reported."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from selfdev_core.miniature.documents import prompt_of
from selfdev_core.miniature.drills import equation
from selfdev_core.miniature.problems import Question

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

_ANSWER_TOKENS = 44


class Exam:
    """Pairs of (prompt, expected text), tokenized once, so that many merges can be scored on them quickly."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, pairs: Sequence[tuple[str, str]]) -> None:
        import torch

        rows: list[list[int]] = []
        masks: list[list[bool]] = []
        for prompt, expected in pairs:
            given = tokenizer(prompt)["input_ids"]
            produced = [*tokenizer(expected)["input_ids"], tokenizer.eos_token_id]
            rows.append([*given, *produced])
            masks.append([False] * len(given) + [True] * len(produced))
        width = max(len(row) for row in rows)
        pad = tokenizer.pad_token_id
        self._ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
        self._mask = torch.tensor([mask + [False] * (width - len(mask)) for mask in masks])

    def right(self, model: LlamaForCausalLM) -> torch.Tensor:
        """Boolean tensor (pairs,): every expected token is the most likely one after the expected ones before it.

        For a worked solution this is stricter than a right final answer, by a few points.
        """
        import torch

        with torch.inference_mode():
            logits = model(input_ids=self._ids[:, :-1], use_cache=False).logits
        hit = (logits.argmax(-1) == self._ids[:, 1:]) | ~self._mask[:, 1:]
        right: torch.Tensor = hit.all(1)
        return right

    def accuracy(self, model: LlamaForCausalLM) -> float:
        """Share of pairs that are right."""
        return float(self.right(model).float().mean())


def drill_exam(tokenizer: PreTrainedTokenizerFast, count: int, seed: int) -> Exam:
    """Bare equations, each after another one (as in training) so that a result is followed by a new line."""
    rng = random.Random(f"drill/{seed}")
    drills = [(equation(rng), equation(rng)) for _ in range(count)]
    return _LineExam(tokenizer, [(f"{a}{b}\n{left}", result) for (a, b), (left, result) in drills])


class _LineExam(Exam):
    """An exam whose expected text is not the end of its document."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, pairs: Sequence[tuple[str, str]]) -> None:
        super().__init__(tokenizer, pairs)
        self._mask = self._mask & (self._ids != tokenizer.eos_token_id)


def problem_exam(tokenizer: PreTrainedTokenizerFast, questions: Sequence[Question]) -> Exam:
    """Worked problems; right means the whole solution as written."""
    return Exam(tokenizer, [(prompt_of(one.question), f" {one.solution}") for one in questions])


def greedy_right(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, questions: Sequence[Question]
) -> list[bool]:
    """For each question: does the greedy completion end in `#### answer`?"""
    import torch

    batch = tokenizer([prompt_of(one.question) for one in questions], padding=True, return_tensors="pt")
    with torch.inference_mode():
        output = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            do_sample=False,
            max_new_tokens=_ANSWER_TOKENS,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    texts = tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return [text.partition("####")[2].strip() == one.answer for text, one in zip(texts, questions, strict=True)]
