"""A Prefect server that dies or goes away under a campaign: a local one is started again at its address, any is waited for."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import httpx

from flows.server import local_server, refusal, running_server
from selfdev_core.errors import SelfdevError
from selfdev_core.home import selfdev_home

T = TypeVar("T")
PATIENCE = 300.0  # seconds to wait for a server that is away
_LOOK_SECONDS = 2.0


@contextmanager
def kept_alive(note: Callable[[str], None]) -> Iterator[None]:
    """Look after the local server while the campaign runs; a server that somebody else runs is theirs to look after."""
    server = running_server()
    if server is None or server.url != os.environ["PREFECT_API_URL"]:
        yield
        return
    over, pid = threading.Event(), server.pid

    def look() -> None:
        nonlocal pid
        while not over.wait(_LOOK_SECONDS):
            if running_server() is None and not over.is_set():
                try:
                    now = local_server().pid  # a busy one is waited for
                    if now != pid:
                        pid = now
                        note("the local Prefect server had died; it was started again")
                except SelfdevError as error:
                    note(str(error))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def through_absence(run: Callable[[], T], note: Callable[[str], None]) -> T:
    """Run a flow; when its server goes away, or knows the run no more, wait for the server and run the flow again, which finds
    its work done.

    Raises: SelfdevError when the server refuses, does not come back, or goes away three times; what the flow raises.
    """
    # Here, since Prefect reads its settings on import, and the server's address must be among them.
    from prefect.exceptions import ObjectNotFound

    for last in (False, False, True):
        try:
            return run()
        except httpx.HTTPStatusError as error:
            if error.response.status_code < 500:
                raise refusal(error) from None
            why = f"fails ({error.response.status_code}), on a full disk perhaps"
            raise SelfdevError(_complaint(why)) from None
        except httpx.TransportError as error:
            if last or not _comes_back(os.environ["PREFECT_API_URL"]):
                raise SelfdevError(_complaint(f"does not answer any more ({error})")) from None
            note("the Prefect server was away; the campaign goes on")
        except ObjectNotFound as error:  # somebody removed it in the UI, or a server that died took it along
            if last:
                raise SelfdevError(_complaint(f"loses the campaign's runs ({error})")) from None
            note("the Prefect server does not know the campaign's run any more; the campaign goes on in a new one")
    raise AssertionError("unreachable")


def _complaint(why: str) -> str:
    log = selfdev_home() / "prefect" / "server.log"
    return f"the Prefect server at {os.environ['PREFECT_API_URL']} {why}; a local server's messages are in {log}"


def _comes_back(url: str) -> bool:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/health", timeout=10.0).status_code == 200:
                return True
        except httpx.HTTPError:
            pass
        time.sleep(1.0)
    return False
