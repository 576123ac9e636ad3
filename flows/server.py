"""The Prefect server: the configured one (PREFECT_API_URL or a Prefect profile), or a local one that we start and keep.

The local server lives in the selfdev home (SQLite), outlives the command that started it, so that the UI shows a campaign
while it runs and afterwards, and is stopped by `selfdev server stop`. Prefect is imported only after its environment
is set, since it reads its settings on import.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil

from selfdev_core.errors import SelfdevError
from selfdev_core.prepare import selfdev_home

START_SECONDS = 120.0
_QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_CLI_PROMPT": "false",
}


class Server(NamedTuple):
    """A running local server: process id, API address and when the process was made (pids are reused)."""

    pid: int
    url: str
    created: float


def use_server(store: Path) -> str:
    """Point Prefect at a running server and at the store's result folder; returns the UI's address.

    Must be called before Prefect is imported. Raises: SelfdevError when a local server cannot be started.
    """
    home = selfdev_home() / "prefect"
    os.environ.update({name: os.environ.get(name, value) for name, value in _QUIET.items()})
    os.environ["PREFECT_LOCAL_STORAGE_PATH"] = str(store / "prefect-results")
    os.environ.setdefault("PREFECT_HOME", str(home))
    if "PREFECT_API_URL" not in os.environ:
        server = running_server() or start_server()
        os.environ["PREFECT_API_URL"] = server.url
    else:
        url = os.environ["PREFECT_API_URL"]
        try:
            httpx.get(f"{url}/health", timeout=10.0).raise_for_status()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SelfdevError(f"PREFECT_API_URL {url}: no server answers ({error}); start it or unset it") from None
    return os.environ["PREFECT_API_URL"].removesuffix("/api")


def running_server() -> Server | None:
    """The local server, if it runs and answers."""
    try:
        server = Server(**json.loads(_state_file().read_text(encoding="utf-8")))
        if abs(psutil.Process(server.pid).create_time() - server.created) > 1.0:
            return None
        return server if httpx.get(f"{server.url}/health", timeout=10.0).status_code == 200 else None
    except (OSError, ValueError, TypeError, psutil.Error, httpx.HTTPError):
        return None


def start_server() -> Server:
    """Start a local server as a process of its own and wait until it answers."""
    home = selfdev_home() / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    environment = (
        os.environ
        | _QUIET
        | {
            "PREFECT_HOME": str(home),
            "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home}/prefect.db",
            "PREFECT_SERVER_API_PORT": str(port),
            "PREFECT_UI_API_URL": url,
            "PREFECT_SERVER_UI_API_URL": url,
        }
    )
    environment.pop("PREFECT_API_URL", None)
    log = home / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=home,
        )
    try:
        return _wait_until_healthy(process, url, log)
    except BaseException:  # Ctrl-C too: a server that nobody knows of must not stay behind
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str, log: Path) -> Server:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=5.0).status_code == 200:
                server = Server(process.pid, url, psutil.Process(process.pid).create_time())
                _state_file().write_text(json.dumps(server._asdict()), encoding="utf-8")
                return server
        except httpx.HTTPError:
            time.sleep(0.2)
    raise SelfdevError(f"the local Prefect server did not start; its messages are in {log}")


def stop_server() -> bool:
    """Stop the local server and its children; False when none was running."""
    server = running_server()
    if server is None:
        return False
    try:
        os.killpg(server.pid, signal.SIGTERM)
        psutil.Process(server.pid).wait(timeout=15)
    except psutil.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
    except (ProcessLookupError, psutil.NoSuchProcess):
        pass
    _state_file().unlink(missing_ok=True)
    return True


def _state_file() -> Path:
    return selfdev_home() / "prefect" / "server.json"


def _free_port() -> int:
    """4200, Prefect's own port, if it is free; else any."""
    for port in (4200, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
            except OSError:
                continue
    raise SelfdevError("no free port on 127.0.0.1 for the local Prefect server")
