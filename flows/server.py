"""The Prefect server: the configured one (PREFECT_API_URL or a Prefect profile), or a local one that we start and keep.

The local server lives in the selfdev home, outlives the command that started it, so that the UI shows a campaign
while it runs and afterwards, and is stopped by `selfdev server stop`. Its database is SQLite beside it, or what Prefect's own
variables name (`database.py`). Prefect is imported only after its environment is set, since it reads its settings on import.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil

from flows.database import SQLITE, Database, configured
from flows.names import BEAT_SECONDS
from flows.signs import ask_for_signs
from selfdev_core.errors import SelfdevError
from selfdev_core.home import replace_text, selfdev_home

START_SECONDS = 120.0
_PORT_SECONDS = 20.0  # for which a killed server's port is waited for: it is held until the last thread is off the disk
_TRIES = 3  # a free port may be taken by another before our server is there
_QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(BEAT_SECONDS),
}


class Server(NamedTuple):
    """A running local server: process id, API address, when the process was made (pids are reused) and its database."""

    pid: int
    url: str
    created: float
    database: str = SQLITE


def use_server() -> str:
    """Point Prefect at a running server; returns the UI's address.

    Must be called before Prefect is imported. Raises: SelfdevError when a local server cannot be started.
    """
    home = selfdev_home() / "prefect"
    os.environ.update({name: os.environ.get(name, value) for name, value in _QUIET.items()})
    os.environ.setdefault("PREFECT_HOME", str(home))
    if "PREFECT_API_URL" not in os.environ:
        if "prefect" in sys.modules:  # it would quietly start a server of its own inside this process
            raise RuntimeError("Prefect was imported before its server was known")
        os.environ["PREFECT_API_URL"] = local_server().url
    else:
        url = os.environ["PREFECT_API_URL"]
        try:
            httpx.get(f"{url}/health", timeout=10.0).raise_for_status()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SelfdevError(f"PREFECT_API_URL {url}: no server answers ({error}); start it or unset it") from None
    return os.environ["PREFECT_API_URL"].removesuffix("/api")


def refusal(error: httpx.HTTPStatusError) -> SelfdevError:
    """What to tell when the server in use answers with an error."""
    url, status = os.environ["PREFECT_API_URL"], error.response.status_code
    if status in (401, 403):
        return SelfdevError(
            f"the Prefect server at {url} refuses the login ({status}); give its name:password as PREFECT_API_AUTH_STRING"
        )
    return SelfdevError(f"the Prefect server at {url} refused: {error.response.text or error}")


def local_server() -> Server:
    """The local server, started if it does not run. Several commands at the same moment end up with one server.

    Raises: SelfdevError when it does not start, or runs on another database than the environment names.
    """
    home = selfdev_home() / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    with (home / "server.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel drops it when we are killed
        server = _known_server()
        if server is not None:
            _same_database(server)
            with suppress(SelfdevError):
                if _becomes_healthy(server):  # whoever started it may have been killed meanwhile
                    return server
            _kill(server)
        server = _start_server(home)
    with suppress(httpx.HTTPError):
        ask_for_signs(partial(_post, server))
    return server


def _post(server: Server, path: str, body: Any) -> Any:
    login = os.environ.get("PREFECT_API_AUTH_STRING", "")
    auth = httpx.BasicAuth(*login.split(":", 1)) if ":" in login else None
    answer = httpx.post(f"{server.url}{path}", json=body, auth=auth, timeout=10.0).raise_for_status()
    return answer.json() if answer.content else None


def running_server() -> Server | None:
    """The local server, if it runs and answers."""
    server = _known_server()
    try:
        return server if server and httpx.get(f"{server.url}/health", timeout=10.0).status_code == 200 else None
    except httpx.HTTPError:
        return None


def _known_server() -> Server | None:
    """The local server, if its process lives."""
    try:
        server = Server(**json.loads(_state_file().read_text(encoding="utf-8")))
        return server if _lives(server) else None
    except (OSError, ValueError, TypeError):
        return None


def _lives(server: Server) -> bool:
    try:
        process = psutil.Process(server.pid)
        same = abs(process.create_time() - server.created) < 1.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _start_server(home: Path) -> Server:
    """Start a local server as a process of its own and wait until it answers."""
    named = configured()
    if named is not None:
        named.reach()
    for attempt in range(_TRIES):
        port = _free_port(home, known=attempt == 0)
        server = _start(home, port, named)
        if server is not None:
            return server
    raise SelfdevError(f"the local Prefect server did not start; its messages are in {home / 'server.log'}")


def _start(home: Path, port: int, named: Database | None) -> Server | None:
    """The server on this port; None when it ended, as it does when another process was faster to take the port."""
    url = f"http://127.0.0.1:{port}/api"
    environment = (
        os.environ
        | _QUIET
        | {
            "PREFECT_HOME": str(home),
            "PREFECT_SERVER_API_PORT": str(port),
            "PREFECT_UI_API_URL": url,
            "PREFECT_SERVER_UI_API_URL": url,
            # Slots that are held (a deployment's one run, a GPU) outlive a restart of the server.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            # One event at a time would lock SQLite so often that requests meet the lock, and each that does waits two seconds.
            "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
            "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",  # Prefect takes whole seconds: 0.5 would be 0
        }
    )
    environment.pop("PREFECT_API_URL", None)
    if named is None:
        environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = f"{SQLITE}:///{home}/prefect.db"
    with (home / "server.log").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=home,
        )
    server = Server(process.pid, url, psutil.Process(process.pid).create_time(), named.name if named else SQLITE)
    # Written before it answers: if we are killed, the next one finds it, and its port when it is gone.
    replace_text(home / "port", str(port))
    replace_text(_state_file(), json.dumps(server._asdict()))
    try:
        return server if _becomes_healthy(server) else None
    except BaseException:  # Ctrl-C too: a server that nobody waits for must not stay behind
        _kill(server)
        raise


def _same_database(server: Server) -> None:
    """A server that already runs keeps its database; say so when the environment names another."""
    named = configured()
    if named is not None and named.name != server.database:
        raise SelfdevError(
            f"the local Prefect server keeps its runs in {server.database}, but {named.variable} names {named.name}; when "
            "nothing runs on it any more, stop it with `selfdev server stop` and run this again"
        )


def _becomes_healthy(server: Server) -> bool:
    """Whether it answers before it ends. Raises: SelfdevError when it does neither for long."""
    deadline = time.monotonic() + START_SECONDS
    while _lives(server):
        if time.monotonic() > deadline:
            raise SelfdevError(
                f"the local Prefect server did not answer within {START_SECONDS:.0f} s; see its server.log"
            )
        with suppress(httpx.HTTPError):
            if httpx.get(f"{server.url}/health", timeout=5.0).status_code == 200 and _listens(server):
                return True
        time.sleep(0.2)
    return False


def _kill(server: Server) -> None:
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)


def _listens(server: Server) -> bool:
    """Whether this process or a child of it has the port: it may be another's server that answers there."""
    try:
        family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        return any(
            one.status == psutil.CONN_LISTEN and f":{one.laddr.port}/" in server.url
            for process in family
            for one in process.net_connections("tcp")
        )
    except psutil.Error:
        return False


def stop_server() -> bool:
    """Stop the local server and its children, whether it answers or hangs; False when none was running."""
    server = _known_server()
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


def _free_port(home: Path, known: bool) -> int:
    """With `known`, the last server's port, so that campaigns, workers and open pages find the new one, or 4200, Prefect's own,
    if one of them is free; else any."""
    memory = home / "port"
    if known and memory.is_file() and memory.read_text().isdecimal():
        last, deadline = int(memory.read_text()), time.monotonic() + _PORT_SECONDS
        while time.monotonic() < deadline:
            if _is_free(last):
                return last
            time.sleep(0.2)
    for port in (4200, 0) if known else (0,):
        if free := _is_free(port):
            return free
    raise SelfdevError("no free port on 127.0.0.1 for the local Prefect server")


def _is_free(port: int) -> int:
    """The port (for 0, any) if a server can listen there, else 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the last server may linger
        try:
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
        except OSError:
            return 0
