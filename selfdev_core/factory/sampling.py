"""The algorithm factory at work: sampling programs from a model for one fixed prompt, in seeded batches."""

from __future__ import annotations

from pathlib import Path

from selfdev_core.workers.generation import Generated


def sample_programs(
    folder: str,
    prompt: str,
    count: int,
    temperature: float,
    top_p: float,
    seed: int,
    max_new_tokens: int,
    batch_size: int,
    adapter: str = "",
) -> list[Generated]:
    """Draw `count` continuations of the prompt. Runs in a worker. `adapter`: folder of an adapter on the model in `folder`.

    Batch b is drawn with seed `seed + b`, so the same arguments give the same programs on one machine.
    """
    import torch

    from selfdev_core.workers.generation import continue_prompts
    from selfdev_core.workers.models import load, swap

    loaded = load(Path(folder), Path(adapter) if adapter else None)
    swap(loaded, None)
    drawn: list[Generated] = []
    for batch, start in enumerate(range(0, count, batch_size)):
        torch.manual_seed(seed + batch)
        prompts = [prompt] * min(batch_size, count - start)
        drawn += continue_prompts(
            loaded, prompts, max_new_tokens, do_sample=True, temperature=temperature, top_p=top_p, top_k=0
        )
    return drawn
