"""Memory of big tensors is used again within a run, and given back where that does not help.

`start.KEEP_MEMORY` lets the C library keep what was freed: otherwise the kernel takes back each tensor's memory and zeroes
new memory for the next, which took half of a big merge's time. A tensor larger than those before it finds no place among
theirs, so before it comes everything free is given back; and so it is after one that stands out, which leaves places that
those to come do not need.
"""

from __future__ import annotations

import ctypes
from collections import deque
from contextlib import suppress

_BIG = 1 << 20  # entries
_LOOK_BACK = 16  # parameters: more than a transformer block has


class Heap:
    """Told of each parameter before its task vectors are made, and when they are gone."""

    def __init__(self) -> None:
        self._trim = None
        with suppress(OSError, AttributeError):  # not the GNU C library: nothing was kept
            self._trim = ctypes.CDLL(None).malloc_trim
        self._recent: deque[int] = deque([0], maxlen=_LOOK_BACK)
        self._stands_out = False

    def expect(self, entries: int) -> None:
        """Before a parameter's task vectors are made."""
        if entries > _BIG and entries > max(self._recent) > 0:
            self._give_back()
        self._stands_out = entries > _BIG and entries > 2 * max(self._recent)
        self._recent.append(entries)

    def spent(self) -> None:
        """When nothing is left of them but the result."""
        if self._stands_out:
            self._give_back()

    def _give_back(self) -> None:
        if self._trim is not None:
            self._trim(ctypes.c_size_t(0))
