"""`selfdev worker`: this process becomes Prefect's worker, so that signals, logs and exit status are Prefect's own."""

from __future__ import annotations

import os
import sys

from prefect import get_client
from prefect.exceptions import ObjectNotFound

from selfdev_core.errors import ConfigError
from selfdev_core.home import selfdev_home


def become_worker(pool: str) -> None:
    """Does not return. Raises: ConfigError when the server has no such work pool."""
    with get_client(sync_client=True) as client:
        try:
            kind = client.read_work_pool(pool).type
        except ObjectNotFound:
            raise ConfigError(
                f"--pool {pool}: is not on {client.api_url}; `selfdev deploy CAMPAIGN.yaml --pool {pool}` makes it"
            ) from None
    environment = os.environ | {
        "SELFDEV_HOME": str(selfdev_home()),  # runs start in folders of their own: no relative path
        "PREFECT_LOGGING_LEVEL": "INFO",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO",
    }
    # Without --limit: with one, Prefect 3.8's worker dies when a run is retried or resumed before its old process has ended
    # ("this borrower is already holding …"). The pool has a limit instead.
    start = [sys.executable, "-m", "prefect", "worker", "start"]
    os.execve(sys.executable, [*start, "--pool", pool, "--type", kind], environment)
