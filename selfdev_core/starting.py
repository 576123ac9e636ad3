"""How a Python process of our own is started: this very package, no user site, nothing from the folder it stands in."""

from __future__ import annotations

import sys
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parents[1])
_RUN = (
    "import sys; root = {root!r}; root in sys.path or sys.path.insert(0, root); from {module} import main; main({call})"
)


def command(module: str, call: str = "") -> list[str]:
    """Runs `main(call)` of a module of this very package, wherever another copy may be installed."""
    return [sys.executable, "-P", "-s", "-c", _RUN.format(root=_ROOT, module=module, call=call)]
