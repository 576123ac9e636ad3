"""The ledger of a campaign is the same in a folder and on S3."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from selfdev_core.home import campaign_folder
from selfdev_core.kinds import ALWAYS_KEPT, KINDS
from selfdev_core.ledger import read_ledger
from selfdev_core.ledger.journal import Journal
from selfdev_core.records import Cost
from selfdev_core.store.artifacts import ArtifactStore
from selfdev_core.store.retention import DAY, carry_out, plan_retention
from selfdev_core.store.verify import verify


def test_segments_are_found_sound_and_kept(open_store: Callable[[], ArtifactStore]) -> None:
    store = open_store()
    assert read_ledger("mine", store).stages == {}
    journal = Journal("mine", store, print)
    for number in range(3):
        journal.done("evaluate", str(number), Cost(seconds=1.0, questions=5))
        journal.mirror()
    journal.close()
    shutil.rmtree(campaign_folder("mine"))
    assert verify(store, KINDS).damaged == ()
    in_a_month = max(one.modified for one in store.objects.list()) + 30 * DAY
    carry_out(store, plan_retention(store, in_a_month, 1.0, ("mine",), ALWAYS_KEPT), in_a_month)
    assert read_ledger("mine", open_store()).cost == Cost(seconds=3.0, questions=15)
