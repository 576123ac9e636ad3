"""Programs that do not end and try to take a family with them: what a deadline has to clear away."""

from __future__ import annotations

from tests.security.hostile.deadlines import DEADLINES

_HEAD = "import torch\nos = torch.os\ntime = torch.importlib.import_module('time')\n"
_MERGE = "def merge_models(model_dict, device):\n    while True: pass\n"
_FAMILY = """\
def born():
    try:
        return os.fork()
    except OSError:
        return -1
"""

TREES: dict[str, str] = {
    "a sleeper": f"{_HEAD}time.sleep(1000)\n{_MERGE}",
    "a spinner": f"{_HEAD}{_MERGE}",
    "a daemon and a spinner": f"{_HEAD}{_FAMILY}"
    f"if born() == 0:\n    os.setsid()\n    if born() == 0:\n        time.sleep(30)\n    os._exit(0)\n{_MERGE}",
    "a tree of spinners": f"{_HEAD}{_FAMILY}for _ in range(3):\n    born()\ntime.sleep(30)\n{_MERGE}",
    "a tree of sessions": f"{_HEAD}{_FAMILY}for _ in range(3):\n    if born() == 0:\n        os.setsid()\n"
    f"time.sleep(30)\n{_MERGE}",
}
STALLERS: dict[str, str] = TREES | {one.name: one.source for one in DEADLINES if one.reasons == {"time-limit"}}
