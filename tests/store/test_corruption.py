"""Random damage to records, manifests, task results and blobs: every piece is found by whoever reads it, and by `verify`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.durability_corruption import DAMAGES, GROUPS, corrupt
from selfdev_core.store.artifacts import ArtifactStore


@pytest.mark.parametrize("count", [250])
def test_every_random_damage_is_found(open_store: Callable[[], ArtifactStore], tmp_path: Path, count: int) -> None:
    address = open_store().address
    found = corrupt(address, tmp_path / "work", count if address.startswith("/") else count // 5, seed=1)
    assert [one for one in found if not (one.read and one.verified)] == []
    met = {(one.how, next(group for group in GROUPS if one.name.startswith(group))) for one in found}
    assert met == {(how, group) for how in DAMAGES for group in GROUPS}
