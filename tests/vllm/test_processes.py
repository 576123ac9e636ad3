"""Engines die, hang, are left alone, or belong to somebody else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from selfdev_core.engines.config import EngineConfig
from selfdev_core.errors import ConfigError, EngineError
from tests.vllm.conftest import FAMILY, SEED, Merge, Told, ask

_DRIVER = """
import sys, time
from pathlib import Path
from selfdev_core.engines.config import EngineConfig
from selfdev_core.engines.vllm.engine import VllmEngine
engine = VllmEngine(EngineConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2]), print, print)
engine.answer(Path(sys.argv[3]), None, ["Q:"], max_new_tokens=4, batch_size=1)
print(engine._slots[0]._server.pid, flush=True)
time.sleep(600)
"""


def _pid(told: Told) -> int:
    (slot,) = told.engine._slots
    return int(slot._server.pid)  # type: ignore[attr-defined]


def _group(pid: int) -> list[psutil.Process]:
    """Living processes of a process group."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            pass
    return found


def _gone(pid: int, seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while _group(pid) and time.monotonic() < deadline:
        time.sleep(0.2)
    return not _group(pid)


@pytest.mark.parametrize("who", ["server", "its worker"])
def test_an_engine_that_is_killed_is_replaced_and_holds_the_same_weights(
    who: str,
    open_engine: Callable[[EngineConfig], Told],
    config: EngineConfig,
    merge: Callable[..., Merge],
    prompts: list[str],
) -> None:
    told = open_engine(config)
    weights = merge(0.6, 0.4).weights
    expected = ask(told.engine, SEED, weights, prompts[:16])
    first = _pid(told)
    victims = psutil.Process(first).children() if who == "its worker" else [psutil.Process(first)]
    for victim in victims:
        victim.kill()
    assert ask(told.engine, SEED, weights, prompts[:16]) == expected
    assert _pid(told) != first and _gone(first)
    assert len(told.retries) == 1 and "a vLLM engine died" in told.retries[0]
    second = _pid(told)
    told.engine.close()
    assert _gone(second)


def test_an_engine_that_hangs_is_replaced(
    open_engine: Callable[[EngineConfig], Told], config: EngineConfig, prompts: list[str]
) -> None:
    told = open_engine(config.model_copy(update={"answer_seconds": 20.0}))
    expected = ask(told.engine, SEED, None, prompts[:4])
    first = _pid(told)
    for process in _group(first):
        process.send_signal(signal.SIGSTOP)
    assert ask(told.engine, SEED, None, prompts[:4]) == expected
    assert len(told.retries) == 1 and "a vLLM engine died" in told.retries[0]
    assert _gone(first)
    told.engine.close()


def test_an_engine_that_never_starts_says_why(
    open_engine: Callable[[EngineConfig], Told], config: EngineConfig, tmp_path: Path
) -> None:
    shutil.copytree(SEED, tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"not tensors")
    told = open_engine(config)
    with pytest.raises(EngineError, match=r"(?s)engine for .*broken ended; .*log ends with") as failure:
        ask(told.engine, tmp_path / "broken", None, ["Q:"])
    assert "safetensor" in str(failure.value).lower()
    assert told.retries == []


def test_nothing_is_left_when_the_driver_is_killed(config: EngineConfig, tmp_path: Path) -> None:
    arguments = [config.model_dump_json(), str(tmp_path), str(SEED)]
    environment = os.environ | {"SELFDEV_HOME": str(tmp_path / "home")}
    driver = subprocess.Popen(
        [sys.executable, "-c", _DRIVER, *arguments], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert driver.stdout is not None
    pid = int(driver.stdout.readline())
    assert len(_group(pid)) >= 2  # the server and what computes for it
    driver.kill()
    driver.wait()
    assert _gone(pid)


def test_another_architecture_starts_another_engine(
    open_engine: Callable[[EngineConfig], Told], config: EngineConfig, prompts: list[str], tmp_path: Path
) -> None:
    told = open_engine(config)
    ask(told.engine, SEED, None, prompts[:4])
    first = _pid(told)
    ask(told.engine, FAMILY / "alpha", None, prompts[:4])
    assert _pid(told) == first  # a sibling's weights are all that differs
    other = tmp_path / "other"
    shutil.copytree(SEED, other)
    settings = json.loads((other / "config.json").read_text())
    settings["rope_parameters"]["rope_theta"] = 500.0
    (other / "config.json").write_text(json.dumps(settings))
    answers = ask(told.engine, other, None, prompts[:16])
    assert _pid(told) != first
    assert told.notes == [f"the vLLM engine starts again: {other} has another rope_parameters"]
    assert answers != ask(told.engine, SEED, None, prompts[:16])
    told.engine.close()


def test_a_prompt_that_leaves_no_room_for_its_answer_is_refused(told: Told, prompts: list[str]) -> None:
    for times in (90, 400):  # vLLM itself would cut the answer to the first one short
        with pytest.raises(
            EngineError, match=r"a prompt of \d+ tokens and an answer of max_new_tokens 36 need more than"
        ):
            ask(told.engine, SEED, None, ["Q: " + "1 + 2 + 3 " * times])
    assert ask(told.engine, SEED, None, prompts[:2])


def test_a_program_ends_where_the_models_context_ends(told: Told) -> None:
    sampled = {"temperature": 1.0, "top_p": 1.0, "seed": 0, "batch_size": 4}
    drawn = told.engine.sample(SEED, "import torch\n" * 60, 4, max_new_tokens=2048, **sampled)
    assert len(drawn) == 4 and all(0 < one.tokens < 512 for one in drawn)


def test_a_stop_that_is_a_token_ends_an_answer(told: Told, prompts: list[str]) -> None:
    plain = ask(told.engine, SEED, None, prompts[:8])
    given = told.engine.answer(SEED, None, prompts[:8], max_new_tokens=36, batch_size=8, stop=("=",))
    assert [one.text for one in given] == [text.split("=")[0] for text in plain] != plain


def test_make_room_ends_the_engine_and_the_next_call_starts_it_again(
    open_engine: Callable[[EngineConfig], Told], config: EngineConfig, prompts: list[str]
) -> None:
    told = open_engine(config.model_copy(update={"end_for_training": True}))
    expected = ask(told.engine, SEED, None, prompts[:4])
    first = _pid(told)
    told.engine.make_room()
    assert _gone(first)
    assert ask(told.engine, SEED, None, prompts[:4]) == expected
    told.engine.close()


def test_tensor_parallel_gives_the_same_answers_and_the_same_proof(
    open_engine: Callable[[EngineConfig], Told], config: EngineConfig, merge: Callable[..., Merge], prompts: list[str]
) -> None:
    told = open_engine(config.model_copy(update={"tensor_parallel": 2, "dtype": "float32"}))
    alone = open_engine(config.model_copy(update={"dtype": "float32"}))
    weights = merge(0.6, 0.8).weights
    for given in (None, weights):
        assert ask(told.engine, SEED, given, prompts[:32]) == ask(alone.engine, SEED, given, prompts[:32])
    told.engine.close()
    alone.engine.close()


def test_an_engine_started_by_hand_serves_one_campaign_after_the_other(
    open_engine: Callable[[EngineConfig], Told], config: EngineConfig, merge: Callable[..., Merge], prompts: list[str]
) -> None:
    start = [sys.executable, "-m", "flows.cli", "vllm", "start", str(SEED), "--gpus", "0", "--kv-cache-gb", "0.25"]
    by_hand = subprocess.Popen(
        [*start, "--dtype", "bfloat16", "--python", str(config.python)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "300"},
    )
    try:
        assert by_hand.stdout is not None
        line = next(line for line in by_hand.stdout if line.startswith("ready: "))
        use = EngineConfig(kind="vllm", dtype="bfloat16", urls=(line.removeprefix("ready: ").strip(),))
        one = open_engine(use)
        answers = ask(one.engine, SEED, merge(0.6, 0.4).weights, prompts[:8])
        two = open_engine(use)
        # Locks are the process's: what another process would see.
        busy = subprocess.run(
            [sys.executable, "-c", _DRIVER, use.model_dump_json(), "/tmp", str(SEED)], capture_output=True, text=True
        )
        assert "is in use by another campaign" in busy.stderr
        with pytest.raises(EngineError, match="is in use by another campaign"):
            ask(two.engine, SEED, None, prompts[:8])
        one.engine.close()
        assert ask(two.engine, SEED, merge(0.6, 0.4).weights, prompts[:8]) == answers
        two.engine.close()
        other = open_engine(use.model_copy(update={"dtype": "float32"}))
        with pytest.raises(EngineError, match=r"computes in bfloat16, the campaign says engine\.dtype: float32"):
            ask(other.engine, SEED, None, prompts[:8])
        other.engine.close()
    finally:
        by_hand.send_signal(signal.SIGINT)
        by_hand.wait(30)


def test_another_vllm_is_refused(tmp_path: Path) -> None:
    from selfdev_core.engines.vllm.environment import check_environment

    with pytest.raises(ConfigError, match=r"engine.python: .* has no vLLM; `selfdev vllm install`"):
        check_environment(EngineConfig(kind="vllm", python=Path(sys.executable)))
