"""The ledger: what a campaign took, counted once, whatever was killed and wherever it ran."""

from selfdev_core.ledger.read import read_ledger
from selfdev_core.ledger.totals import Ledger, Run, StageTotal

__all__ = ["Ledger", "Run", "StageTotal", "read_ledger"]
