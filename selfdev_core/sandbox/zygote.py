"""The warm worker. Imports torch and maps the bundles once, then forks one child per program.

Started by `client.Sandbox` as `python -P -s -m selfdev_core.sandbox.zygote FD` with an environment of its own. It is trusted
code, but its memory is what every program inherits, so it holds nothing but task vectors.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from selfdev_core.sandbox.bundle import Bundle, read_bundle
from selfdev_core.sandbox.child import run_and_exit
from selfdev_core.sandbox.wire import encode, recv_exactly, recv_frame, write_all

if TYPE_CHECKING:
    import torch

    Vectors = dict[str, dict[str, torch.Tensor]]


def main(control_fd: int) -> None:
    import numpy  # noqa: F401  (programs may import it: once here instead of once per program)
    import torch

    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    control = socket.socket(fileno=control_fd)
    hello = recv_frame(control)
    bundles = {name: read_bundle(Path(path)) for name, path in hello["bundles"].items()}
    _warm_up()
    control.sendall(encode({"ready": os.getpid()}))
    _serve(control, bundles)


def _warm_up() -> None:
    """Do once what torch does lazily on first use, so that no child has to; starts no thread."""
    import torch

    torch.manual_seed(0)
    with torch.no_grad():
        matrix = torch.randn(64, 48)
        signs = torch.sign(matrix) * torch.where(matrix.abs() > matrix.abs().quantile(0.5), matrix, 0.0).clamp(-1, 1)
        merged = torch.stack([matrix, signs]).mean(0).norm() * torch.bernoulli(torch.full((64, 48), 0.5))
        assert torch.equal(merged, merged.clone()) and bool(torch.isfinite(merged).all())


def _serve(control: socket.socket, bundles: dict[str, tuple[Bundle, Vectors]]) -> None:
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: dict[int, tuple[int, int]] = {}  # pid → (job number, status fd)
    with selectors.DefaultSelector() as events:
        events.register(control, selectors.EVENT_READ)
        events.register(wake_read, selectors.EVENT_READ)
        while True:
            for key, _ in events.select():
                if key.fileobj is control:
                    try:
                        _handle(control, bundles, running, (wake_read, wake_write))
                    except (EOFError, ConnectionError):
                        for pid in running:
                            _kill(pid)
                        return
                else:
                    os.read(wake_read, 4096)
                    _reap(running)


def _handle(
    control: socket.socket,
    bundles: dict[str, tuple[Bundle, Vectors]],
    running: dict[int, tuple[int, int]],
    own_fds: tuple[int, int],
) -> None:
    marker, fds, _, _ = socket.recv_fds(control, 1, 2)
    if not marker:
        raise EOFError
    frame = recv_frame(control)
    if marker == b"K":
        for pid, (job, _) in running.items():
            if job == frame["job"]:
                _kill(pid)
        return
    result_fd, status_fd = fds
    size = int(frame["source_bytes"])
    source = recv_exactly(control, size).decode("utf-8", "surrogatepass")
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        bundle, vectors = bundles[frame["bundle"]]
        run_and_exit(source, bundle, vectors, result_fd, frame["limits"])
    os.close(result_fd)
    running[pid] = (int(frame["job"]), status_fd)


def _reap(running: dict[int, tuple[int, int]]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        job = running.pop(pid, None)
        if job is None:
            continue
        _kill_group(pid)
        code = os.waitstatus_to_exitcode(status)
        with suppress(BrokenPipeError):
            write_all(job[1], encode({"exit": code}))
        os.close(job[1])


def _kill(pid: int) -> None:
    _kill_group(pid)
    os.kill(pid, signal.SIGKILL)


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]))
