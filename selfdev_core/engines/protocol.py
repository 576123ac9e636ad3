"""What the stages ask of a model engine: to sample programs and to answer questions. Two kinds can (`EngineConfig.kind`).

The choice is configuration: a stage calls these Protocols and does not know which engine stands behind them.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

from selfdev_core.workers.generation import Generated


class Answer(NamedTuple):
    """An answer and its length in tokens (the end token counts)."""

    text: str
    tokens: int


class GenerationEngine(Protocol):
    """Writes programs: seeded samples from a model."""

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
        """Draw `count` continuations of the prompt from the checkpoint in `folder`, with the LoRA adapter in `adapter` on it.

        The same arguments give the same programs on one machine. `batch_size`: how many at once, for an engine that does not
        decide that itself. Raises: EngineError when the model cannot be loaded or its process died twice.
        """


class EvaluationEngine(Protocol):
    """Answers questions, greedily."""

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
        """One answer per prompt, in order, from the checkpoint in `folder`.

        `weights`: a safetensors file with merged tensors (name → tensor of the checkpoint's shape) to put in place of the
        checkpoint's own for these answers, or None. An answer ends before the first of the `stop` strings.
        Raises: EngineError when the model cannot be loaded, the weights are not proved to be in place, or its process died twice.
        """


class Engine(GenerationEngine, EvaluationEngine, Protocol):
    """Both, over one set of processes; used from several threads at once."""

    @property
    def device(self) -> str:
        """What the models' device calls itself; empty as long as nobody knows."""

    def warm(self) -> None:
        """Begin what takes long at the start, while the caller does something else."""

    def make_room(self) -> None:
        """Training comes next, on the same devices: give back what it may need. The next call takes it again."""

    def close(self) -> None:
        """End every process, at once if it is busy."""
