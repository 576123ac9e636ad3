"""Graders that may hang or crash run in processes that are killed; nothing they do reaches us but an outcome."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from selfdev_core.errors import ConfigError
from selfdev_core.evaluation.graders import grader_of
from selfdev_core.evaluation.graders.pool import GraderPool, _Overdue, _Process, try_grader
from selfdev_core.evaluation.graders.process import _judge
from selfdev_core.evaluation.graders.spec import GraderSpec

FREAKS = """
import os, sys, time
print("noise on standard output")
def grade(answer, reference):
    print("more noise"); sys.stderr.write("noise\\n")
    if answer == "spin":
        while True: pass
    if answer == "sleep": time.sleep(600)
    if answer == "fill": return len(bytearray(64 << 30)) > 0
    if answer == "crash": os.kill(os.getpid(), 11)
    if answer == "leave": os._exit(0)
    return answer == reference
"""


def own(source: str) -> GraderSpec:
    return GraderSpec(name="own", version="1", source=source)


@pytest.fixture(autouse=True)
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfdev_core.evaluation.graders.pool._LEAST", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


@pytest.fixture
def pool() -> Iterator[GraderPool]:
    made = GraderPool(2, wall_seconds=0.7)
    yield made
    made.close()


def _children() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if "graders.process" in " ".join(one.cmdline())]


def test_a_users_grader_gives_outcomes_in_order_whatever_it_prints(pool: GraderPool) -> None:
    pairs = [("a", "a"), ("b", "a"), ("\n\u2028ü", "\n\u2028ü"), ("", ""), ("x" * 300_000, "y")]
    told: list[int] = []
    assert [one[""] for one in pool.grade(own(FREAKS), pairs, told.append)] == [
        "right",
        "wrong",
        "right",
        "right",
        "wrong",
    ]
    assert sum(told) == len(pairs)


def test_an_answer_that_hangs_fills_or_crashes_its_grader_is_unparsable_and_the_others_are_graded(
    pool: GraderPool,
) -> None:
    bad = ["sleep", "fill", "crash", "leave"]
    pairs = [(text, text) for one in bad for text in ("good", one)]
    assert [one[""] for one in pool.grade(own(FREAKS), pairs)] == ["right", "unparsable"] * len(bad)
    pool.close()
    assert _children() == []


def test_a_grader_that_owes_an_answer_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may write it in the moment in which it is killed; the next answer would get it."""
    process = _Process(own(FREAKS), 10, 0.2)
    try:
        with monkeypatch.context() as slow:
            slow.setattr(process._process, "kill", lambda: None)  # a signal needs a moment, too
            with pytest.raises(_Overdue):
                process.grade(("sleep", "sleep"))
            assert not process.alive
    finally:
        process.end()


@pytest.mark.parametrize(("cause", "error"), [("broken", ConfigError), ("Ctrl-C", KeyboardInterrupt)])
def test_an_error_or_ctrl_c_breaks_off_what_is_graded(cause: str, error: type[BaseException]) -> None:
    spec = own("import time\ndef grade(a, b):\n    return time.sleep(600) if a == 'wait' else {}[a]")
    pool, began = GraderPool(2), time.monotonic()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C
    if cause == "Ctrl-C":
        threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        with pytest.raises(error):
            pool.grade(spec, [("wait", ""), (cause if cause == "broken" else "wait", "")])
    finally:
        signal.signal(signal.SIGINT, before)
        pool.close()
    assert time.monotonic() - began < 30 and _children() == []


def test_math_verify_is_loaded_before_the_first_answer_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    _judge("math", "")
    monkeypatch.delitem(sys.modules, "math_verify")
    _judge("math", "")
    assert "math_verify" in sys.modules


def test_a_grader_that_somebody_kills_from_outside_grades_the_answer_again(pool: GraderPool) -> None:
    spec = own(FREAKS)
    assert pool.grade(spec, [("a", "a"), ("b", "b")]) == [{"": "right"}] * 2
    victims = _children()
    for process in victims:
        os.kill(process.pid, signal.SIGKILL)
    while any(one.status() != psutil.STATUS_ZOMBIE for one in victims):
        time.sleep(0.01)
    assert pool.grade(spec, [("a", "a"), ("b", "a")]) == [{"": "right"}, {"": "wrong"}]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "def grade(a, b): return 0.5",
            r"returned 0\.5; a share of a right answer.*the answer was 'four', the reference '4'",
        ),
        ("def grade(a, b):\n    return {}[a]", r"raised KeyError: 'four' \(line 2\); the answer was 'four'"),
        ("def mark(a, b): return True", r"your grader defines no function grade"),
    ],
)
def test_a_broken_grader_is_told_with_the_answer_it_broke_on(pool: GraderPool, source: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^questions\.grader: .*{message}"):
        pool.grade(own(source), [("four", "4")])


def test_a_broken_grader_is_found_before_any_work_starts() -> None:
    try_grader(own("def grade(a, b): return a == b"), "4")
    with pytest.raises(ConfigError, match="raised ValueError"):
        try_grader(own("def grade(a, b): return int(a) == int(b)"), "four")


def test_a_grader_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"questions\.grader: cannot read .*exakt .*give number, exact, choice, math, or a Python"
    ):
        grader_of(tmp_path / "exakt", None)


def test_a_graders_text_is_its_identity(tmp_path: Path) -> None:
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text("def grade(a, b): return True")
    other.write_text("def grade(a, b): return False")
    assert grader_of(one, None) == grader_of(one, None) != grader_of(other, None)


def test_mathematics_is_compared_as_mathematics() -> None:
    spec, pool = grader_of("math", "flexible"), GraderPool(1)
    cases = [
        (r"so \boxed{\frac{1}{2}}", r"It is \boxed{0.5}.", "right", "right"),
        (r"\boxed{x^2+2x+1}", r"(x+1)^2", "right", "right"),
        (r"\boxed{\text{Evelyn}}", r"\boxed{\text{Evelyn}}", "right", "right"),
        (r"\boxed{\text{Carla}}", r"\boxed{\text{Evelyn}}", "wrong", "wrong"),
        (r"\boxed{\frac{1}{3}}", r"\boxed{0.5}", "wrong", "wrong"),
        ("The answer is 1/2.", r"\boxed{0.5}", "unparsable", "right"),
        ("The answer is $7$.", r"\boxed{0.5}", "unparsable", "wrong"),
        ("I do not know.", r"\boxed{0.5}", "unparsable", "unparsable"),
        ("", r"\boxed{0.5}", "unparsable", "unparsable"),
        (r"\boxed{}", r"\boxed{0.5}", "unparsable", "unparsable"),
    ]
    try:
        marks = pool.grade(spec, [(answer, reference) for answer, reference, *_ in cases])
    finally:
        pool.close()
    assert [(one["strict"], one["flexible"]) for one in marks] == [(strict, flexible) for *_, strict, flexible in cases]


@pytest.mark.slow
def test_a_grader_ends_with_a_driver_that_is_killed() -> None:
    script = (
        "import os, threading, time\n"
        "from selfdev_core.evaluation.graders.pool import GraderPool\n"
        "from selfdev_core.evaluation.graders.spec import GraderSpec\n"
        f"spec, pool = GraderSpec(name='own', version='1', source={FREAKS!r}), GraderPool(1, 600, 600.0)\n"
        "pool.grade(spec, [('a', 'a')])\n"
        "(busy,) = [process for waiting in pool._idle.values() for process in waiting]\n"
        "print(busy._process.pid, flush=True)\n"
        "pool.grade(spec, [('sleep', 'b')])\n"
    )
    root = Path(__file__).parents[2]
    driver = subprocess.Popen([sys.executable, "-c", script], cwd=root, stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    grader = psutil.Process(int(driver.stdout.readline()))
    driver.kill()
    driver.wait()
    driver.stdout.close()
    grader.wait(timeout=120)


@pytest.mark.slow
def test_an_answer_that_keeps_computer_algebra_busy_for_ever_is_unparsable_by_its_cpu_time() -> None:
    hanging = (r"\boxed{9^{9^{9^{9}}}!}", r"\boxed{5^{7^{8^{9}}}}")
    for spec, bad in ((grader_of("math", "flexible"), hanging), (own(FREAKS), ("spin", "spin"))):
        pool = GraderPool(1, cpu_seconds=2, wall_seconds=300.0)
        try:
            marks = pool.grade(spec, [(r"\boxed{2}", r"\boxed{2}"), bad, (r"\boxed{3}", r"\boxed{3}")])
        finally:
            pool.close()
        assert [set(one.values()) for one in marks] == [{"right"}, {"unparsable"}, {"right"}]


def test_the_version_of_math_verify_is_part_of_a_graders_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    before = grader_of("math", "strict")
    assert "math-verify 0." in before.version
    monkeypatch.setattr("selfdev_core.evaluation.graders.version", lambda name: "99")
    assert grader_of("math", "strict") != before
