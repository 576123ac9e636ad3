"""Text generation by transformers, in batches: the one loop behind sampling programs and answering questions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from selfdev_core.workers.models import Loaded


class Generated(NamedTuple):
    """One continuation: its text, its length in tokens, and whether it ended by itself (else at the limit)."""

    text: str
    tokens: int
    finished: bool


def continue_prompts(
    loaded: Loaded, prompts: list[str], max_new_tokens: int, stop: tuple[str, ...] = (), **sampling: Any
) -> list[Generated]:
    """Continue each prompt; greedy unless `sampling` (do_sample, temperature, top_p, …) says otherwise.

    A continuation ends before the first of the `stop` strings, or before a stop that is one token of the vocabulary: a special
    token leaves no text that could be found.
    """
    import torch
    from transformers import GenerationConfig

    tokenizer = loaded.tokenizer
    batch = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False).to(loaded.device)
    ends = loaded.ends | _tokens_of(tokenizer, stop)
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=sorted(ends) or None,
        **({"do_sample": False} | ({"stop_strings": list(stop)} if stop else {}) | sampling),
    )
    with torch.inference_mode():
        output = loaded.model.generate(**batch, generation_config=config, **({"tokenizer": tokenizer} if stop else {}))
    generated = []
    for row in output[:, batch["input_ids"].shape[1] :].tolist():
        end = next((at for at, token in enumerate(row) if token in ends), None)
        finished, kept = end is not None, row[:end]
        text = tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        cut = min((at for one in stop if (at := text.find(one)) >= 0), default=None)
        if cut is not None:  # the rest of the row is padding, which may be an end token
            while kept and kept[-1] == tokenizer.pad_token_id:
                kept.pop()
        generated.append(Generated(text[:cut], len(kept) + (finished and cut is None), finished or cut is not None))
    return generated


def _tokens_of(tokenizer: Any, stop: tuple[str, ...]) -> set[int]:
    """The stops that are a token of the vocabulary as they stand."""
    found = {one: tokenizer.convert_tokens_to_ids(one) for one in stop}
    return {
        token for one, token in found.items() if token is not None and tokenizer.convert_ids_to_tokens(token) == one
    }
