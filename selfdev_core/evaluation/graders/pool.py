"""Grader processes: they can hang or crash without harm, for each is killed at its deadline and started again.

Defends against answers that keep a grader busy for ever, fill its memory or crash it (model output is untrusted, and computer
algebra can be led astray); a process of ours has none of our environment. Does not defend against a grader file that is itself
hostile: that is its owner's code, with their rights. Nothing but JSON comes back from a process.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import pairwise

from selfdev_core.errors import ConfigError, EngineError
from selfdev_core.evaluation.graders import choice, exact, number
from selfdev_core.evaluation.graders.spec import GraderSpec, Marks
from selfdev_core.starting import command

CPU_SECONDS = 10  # of one answer
_WALL_SECONDS = 600.0  # of one answer that waits and does not compute; no load makes another so late
_START_SECONDS = 180.0
_LEAST = 16  # answers for which it pays to start one more process
_HERE = {"number": number.grade, "exact": exact.grade, "choice": choice.grade}  # no answer can keep these busy

Pair = tuple[str, str]


class _Overdue(Exception):
    """The answer took longer than its deadline."""


class _Died(Exception):
    """The process ended and not by its deadline: perhaps somebody killed it."""


def try_grader(spec: GraderSpec, reference: str) -> None:
    """Have a user's own grader grade a reference against itself. Raises: ConfigError when that does not give an outcome."""
    pool = GraderPool(1)
    try:
        pool.grade(spec, [(reference, reference)])
    finally:
        pool.close()


class GraderPool:
    """At most `count` grader processes at once, and no more than there are processors; started when first needed and kept.

    Thread-safe; ended by `close`.
    """

    def __init__(self, count: int, cpu_seconds: int = CPU_SECONDS, wall_seconds: float = _WALL_SECONDS) -> None:
        self._count, self._limits = min(max(1, count), os.cpu_count() or 1), (cpu_seconds, wall_seconds)
        self._places = threading.Semaphore(self._count)
        self._idle: dict[GraderSpec, list[_Process]] = {}
        self._lock = threading.Lock()
        self._closed = False

    def grade(
        self, spec: GraderSpec, pairs: Sequence[Pair], done: Callable[[int], None] = lambda _: None
    ) -> list[Marks]:
        """Marks of each (answer, reference), in order; `done` hears of every graded answer.

        An answer that the grader does not get done with (too long, too much memory, a crash) is unparsable.
        Raises: ConfigError when a user's own grader cannot be loaded, raises, or returns something else than an outcome; then,
        and on Ctrl-C, what is being graded is broken off.
        """
        if spec.name in _HERE:
            made = [_HERE[spec.name](answer, reference) for answer, reference in pairs]
            done(len(pairs))
            return made
        count = min(self._count, -(-len(pairs) // _LEAST))
        parts = [pairs[a:b] for a, b in pairwise(len(pairs) * i // count for i in range(count + 1))] if pairs else []
        call = _Call()
        with ThreadPoolExecutor(max(1, len(parts))) as threads:
            graded = [threads.submit(self._part, spec, part, done, call) for part in parts]
            try:
                for one in sorted(wait(graded, return_when=FIRST_EXCEPTION).done, key=graded.index):
                    one.result()
            except BaseException:
                call.stop()
                raise
        return [marks for part in graded for marks in part.result()]

    def close(self) -> None:
        """End every process that grades nothing now; the others end after their answer."""
        with self._lock:
            self._closed = True
            idle = [process for waiting in self._idle.values() for process in waiting]
            self._idle.clear()
        for process in idle:
            process.end()

    def _part(self, spec: GraderSpec, pairs: Sequence[Pair], done: Callable[[int], None], call: _Call) -> list[Marks]:
        with self._places:
            graded: list[Marks] = []
            for pair in pairs:
                graded.append(self._one(spec, pair, call))
                done(1)
            return graded

    def _one(self, spec: GraderSpec, pair: Pair, call: _Call) -> Marks:
        nothing: Marks = {name: "unparsable" for name in _ways(spec)}
        for _ in range(2):  # once more when it died: it may have been killed from outside
            process = self._take(spec)
            try:
                with call.using(process):
                    marks = process.grade(pair)
            except _Overdue:
                return nothing
            except _Died:
                continue
            finally:
                self._give_back(spec, process)
            return marks or nothing
        return nothing

    def _take(self, spec: GraderSpec) -> _Process:
        with self._lock:
            if self._closed:
                raise EngineError("the campaign was stopped")
            waiting = self._idle.get(spec, [])
            while waiting:
                process = waiting.pop()
                if process.alive:
                    return process
                process.end()  # somebody killed it while it waited
        return _Process(spec, *self._limits)

    def _give_back(self, spec: GraderSpec, process: _Process) -> None:
        with self._lock:
            if process.alive and not self._closed:
                self._idle.setdefault(spec, []).append(process)
                return
        process.end()


def _ways(spec: GraderSpec) -> tuple[str, ...]:
    return ("strict", "flexible") if spec.extraction else ("",)


class _Call:
    """One call of `grade`: the processes that grade for it, until it is stopped."""

    def __init__(self) -> None:
        self._lock, self._busy, self._stopped = threading.Lock(), set[_Process](), False

    @contextmanager
    def using(self, process: _Process) -> Iterator[None]:
        with self._lock:
            if self._stopped:
                raise EngineError("grading was stopped")
            self._busy.add(process)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(process)

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._busy:
                process.kill()


class _Process:
    """One grader process and the pipe to it. It ends with the end of its input, and with us."""

    def __init__(self, spec: GraderSpec, cpu_seconds: int, wall_seconds: float) -> None:
        self._wall = wall_seconds
        self._process = subprocess.Popen(
            command("selfdev_core.evaluation.graders.process", f"{cpu_seconds}, {os.getpid()}"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"} | (dict(os.environ) if spec.name == "own" else {}),
            bufsize=0,
        )
        self._rest, self._owes = b"", False
        try:
            self._ask({"name": spec.name, "source": spec.source}, _START_SECONDS)
        except (_Overdue, _Died) as error:
            self.end()
            raise EngineError(
                f"the process of grader {spec.name} does not start ({type(error).__name__}); is there memory left, and is "
                "selfdev wholly installed?"
            ) from None
        except ConfigError:
            self.end()
            raise

    @property
    def alive(self) -> bool:
        """Whether it can be asked: one that owes an answer cannot, for that would be taken for the next one's."""
        return not self._owes and self._process.poll() is None

    def grade(self, pair: Pair) -> Marks:
        """Marks of one answer; none when it needs too much memory. Raises: _Overdue, _Died, ConfigError."""
        try:
            reply = self._ask({"answer": pair[0], "reference": pair[1]}, self._wall)
        except ConfigError as error:
            raise ConfigError(f"{error}; the answer was {pair[0][:200]!r}, the reference {pair[1][:200]!r}") from None
        marks: Marks = reply.get("marks", {})
        return marks

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _ask(self, message: dict[str, str], seconds: float) -> dict[str, Marks]:
        assert self._process.stdin is not None
        self._owes = True
        try:
            data = json.dumps(message).encode() + b"\n"
            while data:
                data = data[self._process.stdin.write(data) :]
        except OSError:
            raise self._ended() from None
        reply: dict[str, Marks] = json.loads(self._line(time.monotonic() + seconds))
        self._owes = False
        if "error" in reply:
            raise ConfigError(f"questions.grader: your grader {reply['error']}")
        return reply

    def _line(self, deadline: float) -> bytes:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise _Overdue
                piece = os.read(self._process.stdout.fileno(), 1 << 16)
                if not piece:
                    raise self._ended()
                self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _ended(self) -> Exception:
        return _Overdue() if self._process.wait() == -signal.SIGXCPU else _Died()
