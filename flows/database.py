"""The database of the local Prefect server: SQLite in the selfdev home, or the one that Prefect's own variables name.

A team's server uses Postgres: PREFECT_SERVER_DATABASE_CONNECTION_URL, or driver, host, port, user, name and password one by
one (the older PREFECT_API_DATABASE_… names hold too). It is tried before the server starts, because a server that cannot
reach its database only says so deep in its log. The password stays in the environment: no file and no message holds it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from selfdev_core.errors import SelfdevError

if TYPE_CHECKING:
    from sqlalchemy import URL

SQLITE, POSTGRES = "sqlite+aiosqlite", "postgresql+asyncpg"
_PREFIXES = ("PREFECT_SERVER_DATABASE_", "PREFECT_API_DATABASE_")  # Prefect takes the first that is set
_SECONDS = 10.0
_EXAMPLE = f"{POSTGRES}://user:password@host:5432/name"


class Database(NamedTuple):
    """A database that the environment names. `variable` is where; its repr and text show no password."""

    variable: str
    url: URL

    @property
    def name(self) -> str:
        """Driver, user, host and name: what may be shown and written down."""
        from sqlalchemy import URL

        url = self.url
        shown = URL.create(url.drivername, url.username, host=url.host, port=url.port, database=url.database)
        return shown.render_as_string()

    def reach(self) -> None:
        """Open a connection and close it. Raises: SelfdevError naming the variable and what to mend."""
        try:
            asyncio.run(_connect(self.url))
        except Exception as error:
            told = self._without_password(f"{type(error).__name__}: {error}".split("\n")[0])
            raise SelfdevError(
                f"{self.variable}: the Prefect server's database {self.name} cannot be reached ({told}); start it, mend the "
                "variable, or unset it to keep runs in SQLite"
            ) from None

    def _without_password(self, text: str) -> str:
        password = self.url.password
        return text.replace(str(password), "***") if password else text


def configured(environment: Mapping[str, str] = os.environ) -> Database | None:
    """The database that the environment names; None: nothing is said, so SQLite in the selfdev home.

    Raises: SelfdevError when what is said is no database of Prefect's. The text does not repeat it: it may hold a password.
    """
    variable, address = _said("CONNECTION_URL", environment)
    if address:
        url = _parsed(variable, _with_password(address, environment))
    else:
        variable, driver = _said("DRIVER", environment)
        if not driver:
            return None
        url = _assembled(driver, environment)
    if url.drivername not in (SQLITE, POSTGRES):
        raise SelfdevError(f"{variable}: Prefect uses {POSTGRES} or {SQLITE}, not {url.drivername}; write {_EXAMPLE}")
    return Database(variable, url)


def _with_password(address: str, environment: Mapping[str, str]) -> str:
    """Prefect puts the password variable's value where the address holds ${PREFECT_SERVER_DATABASE_PASSWORD}."""
    _, password = _said("PASSWORD", environment)
    for prefix in _PREFIXES:
        address = address.replace(f"${{{prefix}PASSWORD}}", password)
    return address


def _parsed(variable: str, address: str) -> URL:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(address)
    except (ArgumentError, ValueError):
        raise SelfdevError(f"{variable}: is no database address; write it as {_EXAMPLE}") from None


def _said(part: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """The variable that says this part, and what it says; empty when none does."""
    for prefix in _PREFIXES:
        if value := environment.get(prefix + part):
            return prefix + part, value
    return _PREFIXES[0] + part, ""


def _assembled(driver: str, environment: Mapping[str, str]) -> URL:
    from sqlalchemy import URL

    said = {part: _said(part, environment) for part in ("HOST", "PORT", "USER", "NAME", "PASSWORD")}
    if driver == POSTGRES:
        missing = [said[part][0] for part in ("HOST", "USER", "NAME") if not said[part][1]]
        if missing:
            raise SelfdevError(f"the Prefect server's database is {POSTGRES}: set {', '.join(missing)} too")
    variable, port = said["PORT"]
    if port and not port.isdecimal():
        raise SelfdevError(f"{variable}: must be a port number")
    return URL.create(
        driver,
        username=said["USER"][1] or None,
        password=said["PASSWORD"][1] or None,
        host=said["HOST"][1] or None,
        port=int(port) if port else (5432 if driver == POSTGRES else None),
        database=said["NAME"][1] or None,
    )


async def _connect(url: URL) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(url, connect_args={"timeout": _SECONDS})
    try:
        async with engine.connect():
            pass
    finally:
        await engine.dispose()
