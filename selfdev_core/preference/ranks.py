"""Several processes that train together: one GPU each, or on the CPU. transformers' Trainer, through accelerate, joins them up
from the variables that `accelerate launch` would set.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from selfdev_core.errors import EngineError
from selfdev_core.preference.dpo import Training, Update, train

if TYPE_CHECKING:
    from datasets import Dataset


def train_together(update: Update, data: Dataset) -> Training:
    """Train in `processes` processes of this machine; they end when this one does, or when one of them fails.

    Raises: EngineError with what the failed one said.
    """
    from torch.multiprocessing.spawn import start_processes

    count = int(update.settings["processes"])
    with tempfile.TemporaryDirectory() as shared:
        data.save_to_disk(f"{shared}/pairs")  # on disk, they find each other's reference log-probabilities beside it
        try:
            start_processes(  # type: ignore[no-untyped-call]
                _rank, args=(os.getpid(), _free_port(), count, update, shared), nprocs=count, start_method="spawn"
            )
        except Exception as error:
            raise EngineError(
                f"training in {count} processes (dpo.processes) failed: {str(error).strip() or type(error).__name__}"
            ) from error
        losses, margins = json.loads(Path(shared, "training.json").read_text(encoding="utf-8"))
    return Training(losses, margins)


def _rank(rank: int, parent: int, port: int, count: int, update: Update, shared: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    import torch
    from datasets import load_from_disk

    torch.set_num_threads(1)
    training = train(update, load_from_disk(f"{shared}/pairs"))
    if rank == 0:
        Path(shared, "training.json").write_text(json.dumps(training), encoding="utf-8")
    torch.distributed.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
