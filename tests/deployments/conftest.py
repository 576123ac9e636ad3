"""A server of one's own for deployed campaigns, and Prefect in this process pointed at it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.retry import Site, site


@pytest.fixture(scope="session")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A selfdev home with a running server, stopped at the end."""
    with site(tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture
def connected(at: Site) -> Iterator[Site]:
    """This process talks to the site's server."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: at.url}):
        yield at
