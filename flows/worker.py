"""`selfdev worker`: this process becomes Prefect's worker, so that signals, logs and exit status are Prefect's own."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import partial
from typing import Any

import httpx
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import ObjectNotFound

from flows.signs import Path, ask_for_signs
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
        with suppress(httpx.HTTPError):  # those of a worker or a machine that died may wait to be found
            ask_for_signs(partial(_post, client))
    environment = os.environ | {
        "SELFDEV_HOME": str(selfdev_home()),  # runs start in folders of their own: no relative path
        "PREFECT_LOGGING_LEVEL": "INFO",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO",
    }
    # Without --limit: with one, Prefect 3.8's worker dies when a run is retried or resumed before its old process has ended
    # ("this borrower is already holding …"). The pool has a limit instead.
    start = [sys.executable, "-m", "prefect", "worker", "start"]
    os.execve(sys.executable, [*start, "--pool", pool, "--type", kind], environment)


def _post(client: SyncPrefectClient, path: Path, body: Any) -> Any:
    answer = client.request("POST", path, json=body).raise_for_status()
    return answer.json() if answer.content else None
