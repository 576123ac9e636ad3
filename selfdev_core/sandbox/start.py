"""How the sandbox starts a Python process of its own: this package, no user site, nothing of our environment."""

from __future__ import annotations

import sys
from pathlib import Path

# One thread in every numeric library; the same text and hash order everywhere. Nothing else.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMP_THREAD_LIMIT": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "LC_ALL": "C.UTF-8",
    "PYTHONHASHSEED": "0",
}
_ROOT = str(Path(__file__).resolve().parents[2])
_RUN = (
    "import sys; root = {root!r}; root in sys.path or sys.path.insert(0, root); from {module} import main; main({call})"
)


def command(module: str, call: str = "") -> list[str]:
    """Runs `main(call)` of a module of this very package, wherever another copy may be installed."""
    return [sys.executable, "-P", "-s", "-c", _RUN.format(root=_ROOT, module=module, call=call)]
