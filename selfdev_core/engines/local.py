"""The transformers engine: models in the worker processes of the pool."""

from __future__ import annotations

from pathlib import Path

from selfdev_core.engines.protocol import Answer
from selfdev_core.evaluation.engine import answer
from selfdev_core.factory.sampling import sample_programs
from selfdev_core.workers.generation import Generated
from selfdev_core.workers.pool import WorkerPool


class TransformersEngine:
    """Over a pool that belongs to the caller, which also closes it."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    @property
    def device(self) -> str:
        return self._pool.device

    def warm(self) -> None:
        self._pool.warm()

    def make_room(self) -> None:
        """Training runs in worker 0, which samples too: it has what it needs."""

    def sample(
        self,
        folder: Path,
        prompt: str,
        count: int,
        *,
        temperature: float,
        top_p: float,
        seed: int,
        max_new_tokens: int,
        batch_size: int,
        adapter: Path | None = None,
    ) -> list[Generated]:
        return self._pool.call(
            sample_programs,
            str(folder),
            prompt,
            count,
            temperature,
            top_p,
            seed,
            max_new_tokens,
            batch_size,
            str(adapter or ""),
            worker=0,
        )

    def answer(
        self,
        folder: Path,
        weights: Path | None,
        prompts: list[str],
        *,
        max_new_tokens: int,
        batch_size: int,
        stop: tuple[str, ...] = (),
    ) -> list[Answer]:
        given = self._pool.call(
            answer, str(folder), str(weights) if weights else None, prompts, max_new_tokens, batch_size, stop
        )
        return [Answer(text, tokens) for text, tokens in given]

    def close(self) -> None:
        """The pool's owner ends it."""
