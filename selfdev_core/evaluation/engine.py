"""The transformers evaluation engine: greedy answers of a model, or of the seed with merged weights in place."""

from __future__ import annotations

from pathlib import Path


def answer(
    folder: str,
    weights: str | None,
    prompts: list[str],
    max_new_tokens: int,
    batch_size: int,
    stop: tuple[str, ...] = (),
) -> list[tuple[str, int]]:
    """Answer each prompt greedily; (text, tokens) per prompt, in order. Runs in a worker.

    `weights`: safetensors file with the merged tensors to put in place of the model's own, or None. Prompts are answered
    in order of length, so that little of a batch is padding.
    """
    from selfdev_core.workers.generation import continue_prompts
    from selfdev_core.workers.models import load, swap

    loaded = load(Path(folder))
    swap(loaded, Path(weights) if weights else None)
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    answers: list[tuple[str, int]] = [("", 0)] * len(prompts)
    for start in range(0, len(order), batch_size):
        block = order[start : start + batch_size]
        given = continue_prompts(loaded, [prompts[i] for i in block], max_new_tokens, stop)
        for i, done in zip(block, given, strict=True):
            answers[i] = (done.text, done.tokens)
    return answers
