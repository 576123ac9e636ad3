"""`selfdev gc` and `selfdev store verify`: what a store keeps, what goes, and whether it is sound."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from rich.console import Console

from selfdev_core.errors import ConfigError
from selfdev_core.home import selfdev_home
from selfdev_core.kinds import ALWAYS_KEPT, CANNOT_BE_MADE_AGAIN, KINDS
from selfdev_core.store.artifacts import ArtifactStore
from selfdev_core.store.filesystem import Stored
from selfdev_core.store.location import check_url, is_url
from selfdev_core.store.retention import carry_out, plan_retention
from selfdev_core.store.verify import drop, verify


def open_store(address: str | None) -> ArtifactStore:
    """The store at an address, by default the home's. Raises: ConfigError, StoreError."""
    if address is None:
        return ArtifactStore(selfdev_home() / "store")
    try:
        return ArtifactStore(check_url(address) if is_url(address) else Path(address).expanduser().resolve())
    except ValueError as error:
        raise ConfigError(f"--store: {error}") from None


def collect(address: str | None, days: float, forget: list[str], really: bool, console: Console) -> None:
    """Say what goes and what stays; remove it when `really`."""
    store, now = open_store(address), time.time()
    plan = plan_retention(store, now, days, tuple(forget), ALWAYS_KEPT)
    kept_for = ", ".join(plan.campaigns) or "no campaign"
    console.print(f"store {store.address}: {_amount(plan.staying)} stay, for {kept_for}", highlight=False)
    for kind, count in sorted(Counter(_kind(one) for one in plan.going).items()):
        console.print(f"  {count} × {kind}", highlight=False)
    if plan.unfinished:
        console.print(f"  {plan.unfinished} × write that was killed", highlight=False)
    if plan.cached:
        console.print(f"  {len(plan.cached)} × checkpoint fetched to {store.cache}", highlight=False)
    if not (plan.going or plan.unfinished or plan.cached):
        console.print("nothing to remove", highlight=False)
    elif really:
        carry_out(store, plan, now)
        console.print(f"removed {_amount(plan.going)}", highlight=False)
    else:
        console.print(f"{_amount(plan.going)} would go; add --yes to remove them", highlight=False)


def check(address: str | None, dropping: bool, console: Console) -> bool:
    """Check every object and say which are damaged; drop them when asked. Returns whether all that stays is sound."""
    store = open_store(address)
    with console.status("checking") as status:
        found = verify(store, KINDS, lambda name: status.update(f"checking {name}"))
    console.print(f"store {store.address}: {found.sound} objects sound, {found.size / 1e6:.1f} MB", highlight=False)
    for name in found.foreign:
        console.print(f"  foreign  {name}", highlight=False, markup=False, soft_wrap=True)
    for damage in found.damaged:
        console.print(f"  damaged  {damage.name}: {damage.fault}", highlight=False, markup=False, soft_wrap=True)
    if not found.damaged:
        return True
    if not dropping:
        console.print(f"{len(found.damaged)} damaged; `selfdev store verify --drop` removes them to be made again")
        return False
    gone = drop(store, found.damaged, CANNOT_BE_MADE_AGAIN)
    left = len(found.damaged) - len(gone)
    rest = f"; {left} cannot be made again and were left: restore them from a backup" if left else ""
    console.print(f"removed {len(gone)}; the next run of their campaign makes them again{rest}", highlight=False)
    return left == 0


def _kind(one: Stored) -> str:
    parts = one.name.split("/")
    return parts[1] if parts[0] == "records" and len(parts) > 2 else parts[0]


def _amount(objects: tuple[Stored, ...]) -> str:
    return f"{len(objects)} objects ({sum(one.size for one in objects) / 1e6:.1f} MB)"
