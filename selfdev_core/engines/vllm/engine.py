"""The vLLM engine: servers that stay up while the weights in them change, one for each GPU (or `tensor_parallel` of them)."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from selfdev_core.engines.config import EngineConfig
from selfdev_core.engines.protocol import Answer
from selfdev_core.engines.vllm.adapter import write_with_adapter
from selfdev_core.engines.vllm.client import AT_ONCE, EngineGone
from selfdev_core.engines.vllm.slots import Slot, slots_of
from selfdev_core.errors import EngineError
from selfdev_core.ledger.meter import held_a_worker
from selfdev_core.workers.generation import Generated

T = TypeVar("T")
_OTHER_FILES = 512  # that this process may have open besides: its store, its server, its sandboxes


class VllmEngine:
    """Both Protocols over vLLM servers, in `config.dtype` (never "auto" here: see `choose.dtype_of`). An engine that dies under a
    call is replaced once; a call holds its engine alone.

    `on_cpu`: how many engines where no GPU is used; each computes in one thread, or in as many as OMP_NUM_THREADS says.
    `retried` is told when a call begins again on another engine, `note` what else a reader may want to know.
    """

    def __init__(
        self,
        config: EngineConfig,
        scratch: Path,
        retried: Callable[[str], None],
        note: Callable[[str], None],
        on_cpu: int = 1,
    ) -> None:
        self._config, self._retried, self._note = config, retried, note
        self._scratch = scratch
        self._adapted: Path | None = None
        self._slots = slots_of(config, scratch, on_cpu)
        _allow_files(_OTHER_FILES + len(self._slots) * AT_ONCE)
        self._free = list(self._slots)
        self._changed = threading.Condition()
        self._closed = False
        self.device = ""

    def warm(self) -> None:
        """A server starts with the first model that it is asked about."""

    def make_room(self) -> None:
        if not self._config.end_for_training:
            return
        with self._changed:  # nobody else takes one meanwhile, so two callers cannot wait for each other
            self._changed.wait_for(lambda: len(self._free) == len(self._slots) or self._closed)
            for slot in self._free:
                slot.end()

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
        """Program i is drawn with seed `seed + i`; vLLM decides by itself how many at once."""
        seeds = [seed + i for i in range(count)]

        def draw(slot: Slot) -> list[Generated]:
            return slot.client.sample(prompt, seeds, temperature, top_p, max_new_tokens, slot.salt)

        return self._with(folder, adapter and self._with_adapter(folder, adapter), draw)

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
        """vLLM decides by itself how many at once."""

        def ask(slot: Slot) -> list[Answer]:
            given = slot.client.complete(prompts, max_new_tokens, stop, slot.salt)
            return [Answer(one.text, one.tokens) for one in given]

        return self._with(folder, weights, ask)

    def _with_adapter(self, folder: Path, adapter: Path) -> Path:
        """The weights file of an adapter; the last one is kept, since a factory draws several times."""
        weights = self._scratch / f"adapter-{adapter.name}.safetensors"
        with self._changed:
            if self._adapted != weights:
                write_with_adapter(folder, adapter, weights, self._config.dtype)
                if self._adapted is not None:
                    self._adapted.unlink(missing_ok=True)
                self._adapted = weights
        return weights

    def close(self) -> None:
        self._closed = True
        for slot in self._slots:
            slot.close()
        with self._changed:
            self._changed.notify_all()

    def _with(self, folder: Path, weights: Path | None, work: Callable[[Slot], T]) -> T:
        """Do some work on an engine that holds these weights."""
        asked = time.monotonic()
        slot = self._take(folder if weights is None else None)
        taken = time.monotonic()
        try:
            for attempt in (1, 2):
                try:
                    self._check_open()
                    self._hold(slot, folder, weights)
                    return work(slot)
                except EngineGone as error:
                    slot.end()
                    self._check_open()
                    if attempt == 2:
                        raise EngineError(
                            f"a vLLM engine died twice: {error}; finished work is kept, run the same command again, with a lower "
                            "engine.gpu_memory_utilization or engine.max_model_len if it ran out of memory"
                        ) from None
                    self._retried(f"a vLLM engine died: {str(error).splitlines()[0]}")
            raise AssertionError("unreachable")
        finally:
            held_a_worker(taken - asked, time.monotonic() - taken)
            self._give_back(slot)

    def _hold(self, slot: Slot, folder: Path, weights: Path | None) -> None:
        try:
            slot.hold(folder, weights, self._note)
            self.device = slot.device
        except EngineGone:
            raise
        except EngineError as error:  # who knows what it holds now
            slot.end()
            self._check_open()
            raise EngineError(f"{error}; the next model gets a new engine") from None
        except BaseException:
            slot.end()
            raise

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the campaign was stopped")

    def _take(self, folder: Path | None = None) -> Slot:
        """A free engine: one that holds this checkpoint already, if there is one."""
        with self._changed:
            self._changed.wait_for(lambda: self._free or self._closed)
            self._check_open()
            slot = next((one for one in self._free if folder is not None and one.is_plain(folder)), self._free[0])
            self._free.remove(slot)
            return slot

    def _give_back(self, slot: Slot) -> None:
        with self._changed:
            self._free.append(slot)
            self._changed.notify()


def _allow_files(wanted: int) -> None:
    """Let this process have so many files open, as far as it may: every sequence that is sampled has a socket."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):  # the kernel's own bound is lower
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
