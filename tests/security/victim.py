"""A process outside that holds a secret in its memory and a file open, and tells of every signal it gets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from tests.security.world import Finding

_SCRIPT = """\
import ctypes, os, signal, sys
secret = sys.stdin.buffer.readline().strip()
kept = ctypes.create_string_buffer(secret, 48)
fd = os.open(sys.argv[1], os.O_RDONLY)
for number in (1, 2, 3, 10, 12, 14, 15, 23):
    signal.signal(number, lambda n, _: os.write(1, f"{n}\\n".encode()))
signal.pthread_sigmask(signal.SIG_BLOCK, [])
os.write(1, f"{ctypes.addressof(kept)} {fd}\\n".encode())
while True:
    signal.pause()
"""


SLOWEST = 19


class Victim:
    """Starts itself again after harm was done to it, under another process number."""

    def __init__(self, secret: str, file: Path) -> None:
        self._secret, self._file = secret, file
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _SCRIPT, str(self._file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={},
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(self._secret.encode() + b"\n")
        self._process.stdin.flush()
        self.address, self.fd = (int(word) for word in self._process.stdout.readline().split())
        self.pid = self._process.pid
        os.set_blocking(self._process.stdout.fileno(), False)
        self._state = self._look()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _look(self) -> dict[str, object]:
        """Its state as seen from outside; empty when it has ended."""
        try:
            one = psutil.Process(self.pid)
            with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
                memory.seek(self.address)
                held = memory.read(48).rstrip(b"\0")
            return {
                "runs": one.status() in (psutil.STATUS_SLEEPING, psutil.STATUS_RUNNING),
                "slowed": one.nice() == SLOWEST,  # as the attack does it; another change may be the machine's owner's
                "limits": one.rlimit(psutil.RLIMIT_NOFILE),
                "cores": one.cpu_affinity(),
                "memory": held == self._secret.encode(),
            }
        except (psutil.Error, OSError):
            return {}

    def harms(self) -> list[Finding]:
        from tests.security.world import Finding

        assert self._process.stdout is not None
        signals = self._process.stdout.read() or b""
        state = self._look() if self._process.poll() is None else {}
        if not signals and state == self._state:
            return []
        self.close()
        self._start()
        told = f"signals {signals.split()}" if signals else f"{state or 'it has ended'}"
        return [Finding("touches", f"a process outside is harmed: {told}")]
