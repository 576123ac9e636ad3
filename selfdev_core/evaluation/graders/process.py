"""The other end of a grader process: reads answers as JSON lines, writes marks; holds a grader that may hang or crash.

Started by pool.py. Each answer has a limit of CPU seconds, so that a busy machine changes no outcome: the kernel ends the
process at the limit. What a grader prints goes nowhere.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from selfdev_core.evaluation.graders.own import OwnGraderError, load
from selfdev_core.evaluation.graders.spec import Marks

MEMORY_BYTES = 4 * 2**30


def main(cpu_seconds: int, driver: int) -> None:
    """First line: `{"name", "source"}`; each further line: `{"answer", "reference"}`. One line comes back for each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's
    threading.Thread(target=_end_with, args=(driver,), daemon=True).start()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with suppress(ValueError, OSError):  # macOS knows no limit on address space
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))

    def say(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    lines = iter(sys.stdin.buffer)
    try:
        judge = _judge(**json.loads(next(lines)))
    except OwnGraderError as error:
        say({"error": str(error)})
        return
    say({"ready": True})
    for line in lines:
        asked = json.loads(line)
        _limit(cpu_seconds)
        try:
            say({"marks": judge(asked["answer"], asked["reference"])})
        except OwnGraderError as error:
            say({"error": str(error)})
        except MemoryError:
            say({"too_big": True})


def _judge(name: str, source: str) -> Callable[[str, str], Marks]:
    if name == "own":
        return load(source)
    from selfdev_core.evaluation.graders.maths import grade, warm

    warm()  # here, where it counts against no answer
    return grade


def _end_with(driver: int) -> None:
    while os.getppid() == driver:
        time.sleep(1.0)
    os._exit(1)


def _limit(cpu_seconds: int) -> None:
    """From now on the process may compute for so long; then SIGXCPU ends it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + cpu_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))
