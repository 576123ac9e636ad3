"""Landlock: no file can be opened, made or removed, no TCP port used, no signal sent to a process outside.

As much of it as the kernel's version knows; nothing when the kernel has none.
"""

from __future__ import annotations

from selfdev_core.sandbox import kernel

# Version → number of file rights it knows (bits 0 … n−1).
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_FILE_RIGHTS_SINCE = 16  # version 5
_TCP_VERSION, _TCP = 4, 0b11
_SCOPE_VERSION, _SCOPES = 6, 0b11  # abstract unix sockets, signals


def restrict() -> int:
    """Close everything Landlock can close to this process and its children. Returns the version used, 0 for none."""
    version = kernel.landlock_abi()
    if version:
        rights = _FILE_RIGHTS.get(version, _FILE_RIGHTS_SINCE)
        kernel.landlock_restrict(
            (1 << rights) - 1,
            _TCP if version >= _TCP_VERSION else 0,
            _SCOPES if version >= _SCOPE_VERSION else 0,
        )
    return version
