"""Merges on a GPU: one fresh process per program, the same contract and the same checks as on the CPU.

A program reaches the GPU only after it has passed the probes on the CPU, in the jail. Covered on the GPU: a process of its
own with an empty environment, no network and process numbers of its own where the machine gives level `strict`, no root,
wall-clock deadline for its whole tree, bounds on main memory and processes where it gives cgroups, checked results. Not
covered: files, threads and system calls, because the CUDA driver needs them (SECURITY.md, "Programs on a
GPU"). Not run on a GPU yet: the tests put the CPU in its place.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from selfdev_core.records import Reason
from selfdev_core.sandbox import cgroup, start
from selfdev_core.sandbox.client import Sandbox
from selfdev_core.sandbox.received import Received, Refused, Run, Sink, readable
from selfdev_core.sandbox.wire import WireError, encode

# Nothing is written into a cache in somebody's home; sums come in one order, so that two runs agree.
_ENVIRONMENT = start.ENVIRONMENT | {"CUDA_CACHE_DISABLE": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
_CHUNK = 1 << 20


class CudaExecutor:
    """Runs programs over the bundles of a sandbox on a GPU. `jail` must hold a bundle `probes`.

    `memory_gb` is the share of the GPU's memory that one program's tensors may take.
    """

    def __init__(self, jail: Sandbox, seconds: float, memory_gb: float, device: str = "cuda:0") -> None:
        self.jail = jail
        self.seconds = seconds
        self.memory_bytes = int(memory_gb * 2**30)
        self.device = device

    def run(self, source: str, bundle: str, *, sink: Sink | None = None) -> Run:
        """Like `Sandbox.run`, on the GPU; the verdict of the probes when the program does not pass them."""
        passed = self.jail.run(source, "probes")
        if passed.reason != "accepted":
            return passed
        read, write = os.pipe()
        try:
            try:
                process, group = self._started(source, bundle, write)
            finally:
                os.close(write)
            try:
                return self._collect(process, Received(self.jail.bundles[bundle], sink), read)
            finally:
                _end(process, group)
        finally:
            os.close(read)

    def _started(
        self, source: str, bundle: str, result_fd: int
    ) -> tuple[subprocess.Popen[bytes], cgroup.Cgroup | None]:
        text = source.encode("utf-8", "surrogatepass")
        request = {
            "bundle": str(Path(self.jail.bundles[bundle].path).resolve()),
            "source_bytes": len(text),
            "seconds": self.seconds,
            "memory_bytes": self.memory_bytes,
            "device": self.device,
        }
        process = subprocess.Popen(
            start.command("selfdev_core.sandbox.cuda_worker", f"{result_fd}, {self.jail.level!r}"),
            pass_fds=(result_fd,),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
        group = cgroup.around(process.pid)
        assert process.stdin is not None
        with suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(encode(request) + text)
        return process, group

    def _collect(self, process: subprocess.Popen[bytes], received: Received, result_fd: int) -> Run:
        """Read until the stream ends. The deadline holds from the start of the process: loading torch is part of it."""
        began = time.monotonic()
        piece = memoryview(bytearray(_CHUNK))
        events = select.poll()
        events.register(result_fd, select.POLLIN)
        while True:
            left = began + self.seconds + received.waited - time.monotonic()
            if left <= 0 or not events.poll(left * 1000 + 1):
                return _failed("time-limit", f"runs longer than {self.seconds:g} s on {self.device}")
            room = received.room()
            count = os.readv(result_fd, [piece if room is None else room])
            if not count:
                break
            try:
                run = received.feed(piece[:count]) if room is None else received.took(count)
                if run is not None:
                    return run
            except WireError as error:
                return _failed(error.reason if isinstance(error, Refused) else "no-result", str(error))
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, began + self.seconds + received.waited - time.monotonic()))
        if process.returncode is None:
            return _failed("time-limit", f"runs longer than {self.seconds:g} s on {self.device}")
        return received.cut_off(process.returncode)


def _failed(reason: Reason, detail: str) -> Run:
    return Run(reason, readable(detail), {})


def _end(process: subprocess.Popen[bytes], group: cgroup.Cgroup | None) -> None:
    """The process, its process group, everything in its cgroup, and (where it has namespaces) all in them."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if group is not None:
        group.end()
