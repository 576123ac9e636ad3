"""Memory of big tensors is used again within a run.

`start.KEEP_MEMORY` lets the C library keep what was freed: otherwise the kernel takes back each tensor's memory and zeroes
new memory for the next, which took half of a big merge's time. Parameters come largest first (`merge.write_bundles`), so each
finds room where those before it were. When they have become less than half as large, all free memory is given back.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

_BIG = 1 << 20  # entries


class Heap:
    """Told of each parameter before its task vectors are made."""

    def __init__(self) -> None:
        self._trim = None
        with suppress(OSError, AttributeError):  # not the GNU C library: nothing was kept
            self._trim = ctypes.CDLL(None).malloc_trim
        self._largest = 0  # entries, since memory was last given back

    def expect(self, entries: int) -> None:
        """Before a parameter's task vectors are made."""
        if self._largest > _BIG and self._largest > 2 * entries:
            self._give_back()
            self._largest = 0
        self._largest = max(self._largest, entries)

    def _give_back(self) -> None:
        if self._trim is not None:
            self._trim(ctypes.c_size_t(0))
