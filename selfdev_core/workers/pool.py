"""Processes that hold models: sampling, answering and training run in them, so the driver stays light and killable.

Each worker is one process with one compute thread (two OpenMP threads on a busy machine can be twenty times slower)
and keeps what it loaded. A worker that dies is replaced once; a worker whose driver dies ends itself.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

from selfdev_core.errors import EngineError
from selfdev_core.ledger.meter import held_a_worker

T = TypeVar("T")
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "PYTHONWARNINGS": "ignore::FutureWarning",
}


class WorkerPool:
    """`count` single-process workers, with their temporary files in `scratch`: libraries leave some there when a worker is
    killed. Models that answer and write compute in `dtype`. Thread-safe; closed by `close` or as a context manager.
    """

    def __init__(self, count: int, scratch: Path, dtype: str = "float32") -> None:
        self._scratch, self._dtype = scratch, dtype
        self._workers: list[ProcessPoolExecutor | None] = [None] * count
        self._free = set(range(count))
        self._changed = threading.Condition()
        self._closed = False
        self.device = ""  # name of the workers' device, known after the first call
        self.retried: Callable[[str], None] = lambda why: None

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def warm(self) -> None:
        """Start every worker now; its imports go on in the background while the caller does something else."""
        for index in range(len(self._workers)):
            (self._workers[index] or self._start(index)).submit(_import_libraries)

    def call(self, function: Callable[..., T], *args: Any, worker: int | None = None) -> T:
        """Run a module-level function in a free worker (or in the one named) and wait for its result.

        Raises: what the function raises; EngineError when the worker's process dies twice.
        """
        asked = time.monotonic()
        index = self._take(worker)
        taken = time.monotonic()
        try:
            if self._closed:
                raise EngineError("the campaign was stopped")
            for attempt in (1, 2):
                executor = self._workers[index] or self._start(index)
                try:
                    result = executor.submit(function, *args).result()
                    self.device = self.device or executor.submit(device_name).result()
                    return result
                except BrokenProcessPool:
                    self._workers[index] = None
                    executor.shutdown(wait=False, cancel_futures=True)
                    if self._closed:
                        raise EngineError("the campaign was stopped") from None
                    if attempt == 2:
                        raise EngineError(
                            f"a worker process died twice in {function.__name__} (out of memory?); finished work is kept, "
                            "run the same command again, with fewer resources.workers or a smaller batch_size"
                        ) from None
                    self.retried(f"a worker died in {function.__name__}")
            raise AssertionError("unreachable")
        finally:
            held_a_worker(taken - asked, time.monotonic() - taken)
            with self._changed:
                self._free.add(index)
                self._changed.notify_all()

    def close(self) -> None:
        """End every worker, at once if it is busy; work in progress is lost, finished results are not."""
        self._closed = True
        for index, executor in enumerate(self._workers):
            if executor is not None:
                if index not in self._free:
                    for process in (executor._processes or {}).values():
                        process.kill()
                executor.shutdown(wait=True, cancel_futures=True)
                self._workers[index] = None

    def _take(self, worker: int | None) -> int:
        with self._changed:
            while True:
                # The highest free one first: worker 0 is left for calls that name it (training keeps its libraries there).
                wanted = max(self._free, default=None) if worker is None else worker if worker in self._free else None
                if wanted is not None:
                    self._free.discard(wanted)
                    return wanted
                self._changed.wait()

    def _start(self, index: int) -> ProcessPoolExecutor:
        os.environ.update({name: os.environ.get(name, value) for name, value in _ENVIRONMENT.items()})
        executor = ProcessPoolExecutor(
            max_workers=1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_initialise,
            initargs=(os.getpid(), str(self._scratch), self._dtype),
        )
        self._workers[index] = executor
        return executor


def _initialise(driver: int, scratch: str, dtype: str) -> None:
    """In the worker: leave Ctrl-C to the driver, end when the driver is gone, compute on one thread and in this dtype."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TMPDIR"] = tempfile.tempdir = scratch
    threading.Thread(target=_end_with, args=(driver,), daemon=True).start()
    import torch

    from selfdev_core.workers import models

    torch.set_num_threads(1)
    models.dtype = dtype


def device_name() -> str:
    """Called in a worker: `cpu`, or what the CUDA device calls itself."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _import_libraries() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401


def _end_with(driver: int) -> None:
    while os.getppid() == driver:
        time.sleep(1.0)
    os._exit(1)
