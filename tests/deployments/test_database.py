"""Which database the local Prefect server gets, and that a password is never told."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from flows import server
from flows.database import SQLITE, configured
from selfdev_core.errors import SelfdevError
from tests.flows.conftest import command, environment_of

PASSWORD = "p@ss:w/rd%7B#?"
PARTS = {
    "PREFECT_SERVER_DATABASE_DRIVER": "postgresql+asyncpg",
    "PREFECT_SERVER_DATABASE_HOST": "db.example.org",
    "PREFECT_SERVER_DATABASE_USER": "prefect",
    "PREFECT_SERVER_DATABASE_NAME": "runs",
    "PREFECT_SERVER_DATABASE_PASSWORD": PASSWORD,
}
NAME = "postgresql+asyncpg://prefect@db.example.org:5432/runs"


def test_nothing_said_is_sqlite() -> None:
    assert configured({}) is None
    assert configured({"PREFECT_SERVER_DATABASE_PASSWORD": PASSWORD}) is None


@pytest.mark.parametrize("prefix", ["PREFECT_SERVER_DATABASE_", "PREFECT_API_DATABASE_"])
def test_an_address_is_taken_from_either_of_prefects_names(prefix: str) -> None:
    found = configured(
        {prefix + "CONNECTION_URL": "postgresql+asyncpg://prefect:hush@db.example.org:5432/runs?ssl=require"}
    )
    assert found and found.name == NAME and found.variable == prefix + "CONNECTION_URL"
    assert found.url.password == "hush" and found.url.query == {"ssl": "require"}


def test_the_newer_name_wins_as_it_does_in_prefect() -> None:
    both = {
        "PREFECT_API_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:////old.db",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:////new.db",
    }
    found = configured(both)
    assert found and found.url.database == "/new.db"


def test_parts_take_a_password_of_any_characters() -> None:
    found = configured(PARTS)
    assert found and found.name == NAME and found.url.password == PASSWORD
    assert PASSWORD not in repr(found) + found.name


def test_the_password_variable_is_put_into_the_address() -> None:
    address = "postgresql+asyncpg://prefect:${PREFECT_SERVER_DATABASE_PASSWORD}@db.example.org:5432/runs"
    found = configured({"PREFECT_API_DATABASE_CONNECTION_URL": address, "PREFECT_API_DATABASE_PASSWORD": "hush"})
    assert found and found.url.password == "hush" and found.name == NAME


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"PREFECT_SERVER_DATABASE_CONNECTION_URL": "hush"}, "PREFECT_SERVER_DATABASE_CONNECTION_URL: is no database"),
        ({"PREFECT_API_DATABASE_CONNECTION_URL": "mysql://u:hush@h/n"}, "not mysql"),
        ({"PREFECT_API_DATABASE_CONNECTION_URL": "postgresql://u:hush@h/n"}, "postgresql.asyncpg or sqlite"),
        ({"PREFECT_API_DATABASE_CONNECTION_URL": "postgresql+asyncpg://u:hush@h:port/n"}, "is no database address"),
        (PARTS | {"PREFECT_SERVER_DATABASE_HOST": ""}, "set PREFECT_SERVER_DATABASE_HOST too"),
        (PARTS | {"PREFECT_SERVER_DATABASE_PORT": "hush"}, "PREFECT_SERVER_DATABASE_PORT: must be a port"),
    ],
)
def test_what_is_no_database_is_refused_without_repeating_it(said: dict[str, str], told: str) -> None:
    with pytest.raises(SelfdevError, match=told) as refused:
        configured(said)
    assert "hush" not in str(refused.value) and PASSWORD not in str(refused.value)


def test_a_database_that_does_not_answer_is_named_with_the_variable(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        address = f"postgresql+asyncpg://prefect:hushhush@127.0.0.1:{taken.getsockname()[1]}/runs"
        done = subprocess.run(
            command("server", "start"),
            env=environment_of(tmp_path) | {"PREFECT_API_DATABASE_CONNECTION_URL": address},
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "PREFECT_API_DATABASE_CONNECTION_URL" in done.stderr and "cannot be reached" in done.stderr
    assert "hushhush" not in done.stdout + done.stderr
    assert not (tmp_path / "prefect" / "server.json").exists()


def test_a_running_server_with_another_database_is_not_taken_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = server.Server(os.getpid(), "http://127.0.0.1:1/api", 1.0, SQLITE)
    server._same_database(runs)
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "postgresql+asyncpg://prefect:hush@db.example.org/runs")
    with pytest.raises(
        SelfdevError, match=r"sqlite.aiosqlite, but PREFECT_API_DATABASE_CONNECTION_URL names"
    ) as refused:
        server._same_database(runs)
    assert "selfdev server stop" in str(refused.value) and "hush" not in str(refused.value)
    server._same_database(runs._replace(database="postgresql+asyncpg://prefect@db.example.org/runs"))


def test_a_state_file_of_an_earlier_version_means_sqlite(tmp_path: Path) -> None:
    earlier = json.loads('{"pid": 1, "url": "http://127.0.0.1:4200/api", "created": 1.0}')
    assert server.Server(**earlier).database == SQLITE
