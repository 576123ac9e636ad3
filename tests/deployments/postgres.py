"""A private Postgres for tests, from Debian's package `postgresql`: its own folder, a free port of 127.0.0.1, gone at the end."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

ABSENT = "Postgres is not installed (Debian: apt-get install postgresql)"
_START_SECONDS = 120.0
_TRIES = 5  # another process may take the port that was free


class Postgres(NamedTuple):
    """A running cluster with one database and its owner, who may make others."""

    host: str
    port: int
    user: str
    password: str
    database: str

    @property
    def url(self) -> str:
        """What PREFECT_SERVER_DATABASE_CONNECTION_URL takes."""
        password = quote(self.password, safe="")
        return f"postgresql+asyncpg://{self.user}:{password}@{self.host}:{self.port}/{self.database}"


def installed() -> bool:
    """Whether this machine can start one; tests skip with ABSENT where it cannot."""
    return _binaries() is not None


@contextmanager
def postgres(
    database: str = "prefect", user: str = "prefect", password: str | None = None, connections: int = 200
) -> Iterator[Postgres]:
    """A cluster that only this machine can reach; without `password` it gets a random one.

    Not synced to disk: it survives the death of its processes, not of the machine. As root it runs as user postgres,
    since Postgres refuses root. Raises: RuntimeError with the log when it does not start.
    """
    binaries = _binaries()
    if binaries is None:
        raise RuntimeError(ABSENT)
    account = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="selfdev-postgres-"))
    password = password or secrets.token_hex(16)
    try:
        secret = folder / "password"
        secret.write_text(password)
        if account:
            shutil.chown(folder, account)
            shutil.chown(secret, account)
        subprocess.run(
            [
                binaries / "initdb",
                f"--pgdata={folder / 'data'}",
                f"--username={user}",
                f"--pwfile={secret}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ],
            check=True,
            capture_output=True,
            cwd=folder,
            **_as(account),
        )
        secret.unlink()
        process, port = _start(binaries, folder, account, connections)
        try:
            made = Postgres("127.0.0.1", port, user, password, database)
            _create(binaries, made)
            yield made
        finally:
            process.send_signal(signal.SIGINT)  # a fast shutdown: clients are cut off
            process.wait(timeout=60)
    finally:
        shutil.rmtree(folder)


def _binaries() -> Path | None:
    """The folder of initdb and postgres: on the path, or Debian's newest version."""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return folders[-1].parent if folders else None


def _as(account: str | None) -> dict[str, str | list[str]]:
    return {"user": account, "group": account, "extra_groups": []} if account else {}


def _start(binaries: Path, folder: Path, account: str | None, connections: int) -> tuple[subprocess.Popen[bytes], int]:
    log = folder / "log"
    for _ in range(_TRIES):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "max_connections": connections,
            "fsync": "off",
        }
        with log.open("ab") as output:
            process = subprocess.Popen(
                [
                    binaries / "postgres",
                    "-D",
                    folder / "data",
                    *(f"--{name}={value}" for name, value in settings.items()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                start_new_session=True,
                **_as(account),
            )
        deadline = time.monotonic() + _START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            ready = subprocess.run([binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)], check=False)
            if ready.returncode == 0:
                return process, port
            time.sleep(0.1)
        if process.poll() is None:
            process.kill()
            process.wait()
            break
    raise RuntimeError(f"Postgres did not start:\n{log.read_text(errors='replace')}")


def _create(binaries: Path, made: Postgres) -> None:
    subprocess.run(
        [binaries / "createdb", "-h", made.host, "-p", str(made.port), "-U", made.user, made.database],
        env=os.environ | {"PGPASSWORD": made.password},
        check=True,
        capture_output=True,
    )
