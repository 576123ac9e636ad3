"""The process that runs one program on a GPU (`cuda.CudaExecutor` starts it). What it cannot close is said there."""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

from selfdev_core.sandbox import doors
from selfdev_core.sandbox.child import Work, run_to_end
from selfdev_core.sandbox.warm import load_libraries
from selfdev_core.sandbox.wire import read_frame


def main(result_fd: int, level: str) -> None:
    request = read_frame(sys.stdin.buffer)
    source = sys.stdin.buffer.read(int(request["source_bytes"])).decode("utf-8", "surrogatepass")
    doors.leave(level)  # `strict`: no network, and what the program starts ends with it; files stay, for the driver
    load_libraries()
    from selfdev_core.sandbox.bundle import read_bundle

    bundle, vectors = read_bundle(Path(request["bundle"]))
    device = request["device"]
    bound_memory(device, int(request["memory_bytes"]))
    doors.drop_privileges()
    _limit(float(request["seconds"]))
    os.environ.clear()
    os.dup2(result_fd, 3)
    run_to_end(Work(source, bundle, vectors, "real", device))


def bound_memory(device: str, memory_bytes: int) -> None:
    """Give this process no more than its share of the GPU's memory, as far as torch's allocator keeps to it."""
    import torch

    if torch.device(device).type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, memory_bytes / total), device)


def _limit(seconds: float) -> None:
    """CPU time and core dumps only: the driver maps far more memory than it uses, and starts threads."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    cpu = 4 * int(seconds) + 60
    for kind, value in ((resource.RLIMIT_CPU, cpu), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(kind, (value, value))
