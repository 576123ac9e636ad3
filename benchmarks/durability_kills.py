"""The kill suite as figures: miniature campaigns on a folder or on S3, killed again and again, against one nobody killed.

python -m benchmarks.durability_kills folder 44 0     store kind, kills, seed of the plan
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from tests.durability.killing import Outcome, Reference, Tell, killed, undisturbed
from tests.durability.place import Place
from tests.durability.schedule import Kill, deal, plan
from tests.durability.watch import Writes, folder_writes, s3_writes
from tests.store.faults import FaultyProxy

StoreKind = Literal["folder", "s3"]
PER_CAMPAIGN = 11  # kills of one campaign


def kill_campaigns(store_kind: StoreKind, kills: int, seed: int = 0, tell: Tell = lambda text: None) -> dict[str, Any]:
    """Plan so many kills, spread them over campaigns, run those one after the other.

    `kills`: kills done; `kills_identical`: those in campaigns whose end was right in every respect; `repeated_evaluations`:
    scorecards, verdicts, samples and trainings computed though they were whole already, by the ledger or by watching the
    store from outside, whichever counts more; `missed`: planned kills whose victim was not there any more; `raw`: a row per
    kill.
    """
    began = time.monotonic()
    campaigns = max(1, round(kills / PER_CAMPAIGN))
    rows: list[dict[str, Any]] = []
    missed: list[Kill] = []
    faults: list[str] = []
    identical = repeated = 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="selfdev-kills-")))
        places = stack.enter_context(places_of(store_kind, folder))
        reference = _undisturbed(*next(places))
        tell(
            f"{store_kind}: unkilled campaign, {sum(reference.seconds.values()):.0f} s, {reference.evaluations} evaluations"
        )
        for number, part in enumerate(deal(plan(kills, seed), campaigns), 1):
            outcome = _killed(*next(places), part, reference, tell)
            good = not outcome.faults
            identical += len(outcome.rows) if good else 0
            repeated += max(len(outcome.repeated), outcome.ledger_repeated)
            missed += outcome.missed
            faults += outcome.faults
            rows += [
                row._asdict() | {"store": store_kind, "campaign": number, "identical": good} for row in outcome.rows
            ]
            tell(
                f"{store_kind}: campaign {number} of {campaigns}, {len(outcome.rows)} kills, "
                + ("; ".join(outcome.faults) or "the same end")
            )
    return {
        "kills": len(rows),
        "kills_identical": identical,
        "repeated_evaluations": repeated,
        "by_victim": dict(Counter(row["victim"] for row in rows)),
        "by_stage": dict(Counter(row["stage_then"] for row in rows)),
        "missed": [kill._asdict() for kill in missed],
        "faults": faults,
        "longest_orphan_seconds": max((row["orphan_seconds"] for row in rows), default=0.0),
        "seconds": round(time.monotonic() - began),
        "raw": rows,
    }


@contextmanager
def places_of(store_kind: StoreKind, folder: Path) -> Iterator[Iterator[tuple[Place, Any]]]:
    """An endless supply of new homes, each with a store of its own, and what watches it."""
    if store_kind == "folder":
        yield (_local(folder / str(number)) for number in range(10_000))
        return
    with s3_service() as (endpoint, proxy):
        yield (_remote(folder / str(number), f"s3://campaigns/{number}", endpoint, proxy) for number in range(10_000))


@contextmanager
def s3_service() -> Iterator[tuple[str, FaultyProxy]]:
    """The address of an S3 service on loopback, and a proxy before it."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # not a line for every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    try:
        with FaultyProxy(endpoint) as proxy:
            yield endpoint, proxy
    finally:
        server.stop()


def _local(folder: Path) -> tuple[Place, Any]:
    place = Place(folder, str(folder / "store")).prepare()
    return place, lambda: folder_writes(folder / "store")


def _remote(folder: Path, store: str, endpoint: str, proxy: FaultyProxy) -> tuple[Place, Any]:
    place = Place(folder, store, endpoint, proxy.url).prepare()
    return place, lambda: s3_writes(proxy, store)


def _undisturbed(place: Place, watch: Any) -> Reference:
    writes: Writes
    with watch() as writes:
        try:
            return undisturbed(place, writes)
        finally:
            place.selfdev("server", "stop")


def _killed(place: Place, watch: Any, kills: list[Kill], reference: Reference, tell: Tell) -> Outcome:
    writes: Writes
    with watch() as writes:
        try:
            return killed(place, writes, kills, reference, tell=tell)
        finally:
            place.selfdev("server", "stop")


def main(store_kind: StoreKind = "folder", kills: str = "44", seed: str = "0") -> None:
    found = kill_campaigns(store_kind, int(kills), int(seed), tell=lambda text: print(text, flush=True))
    print(json.dumps(found, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
