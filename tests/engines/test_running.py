"""An engine behind a URL: what is asked of it, what it may answer, and what it is refused for. The server here only plays one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from selfdev_core.engines.config import EngineConfig
from selfdev_core.engines.vllm.engine import VllmEngine
from selfdev_core.errors import EngineError

HELD = {"sums": {"embed.weight": "5"}, "shapes": {"embed.weight": [1]}, "device": "cpu", "dtype": "bfloat16"}


class Played(ThreadingHTTPServer):
    """Answers like a vLLM server with our worker extension, one token a word; `wrong` replaces its answer to a path or method."""

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint, self.wrong, self.asked = checkpoint, dict[str, bytes](), list[tuple[str, Any]]()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def reply(self, path: str, body: Any) -> bytes:
        name = body["method"] if path == "/collective_rpc" else path
        self.asked.append((name, body))
        if name in self.wrong:
            return self.wrong[name]
        said: dict[str, Any] = {
            "/version": {"version": "0.32.0"},
            "/v1/models": {"data": [{"root": str(self.checkpoint), "max_model_len": 64}]},
            "/reset_prefix_cache": {"success": True},
            "/collective_rpc": {"results": [HELD | {"differs": []}]},
        }
        if path == "/tokenize":
            return json.dumps({"tokens": [7] * len(body["prompt"].split())}).encode()
        if path == "/v1/completions":
            given = {"text": "4", "token_ids": [1], "finish_reason": "stop"}
            return json.dumps({"choices": [{"index": i} | given for i in range(len(body["prompt"]))]}).encode()
        return json.dumps(said.get(path, {})).encode()

    def times(self, name: str) -> int:
        return [asked for asked, _ in self.asked].count(name)


class _Handler(BaseHTTPRequestHandler):
    server: Played

    def do_GET(self) -> None:
        self._reply(None)

    def do_POST(self) -> None:
        self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "null"))

    def _reply(self, body: Any) -> None:
        data = self.server.reply(self.path, body)
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        if data.startswith(b"packed"):
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Played]:
    monkeypatch.setenv("SELFDEV_HOME", str(tmp_path / "home"))
    (tmp_path / "config.json").write_text("{}")
    server = Played(tmp_path)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def ask(engine: VllmEngine, played: Played, prompt: str = "Q:", **how: Any) -> list[str]:
    given = engine.answer(played.checkpoint, None, [prompt], **({"max_new_tokens": 4, "batch_size": 1} | how))
    return [one.text for one in given]


def engine_at(played: Played, **settings: Any) -> VllmEngine:
    config = EngineConfig(kind="vllm", urls=(played.url,), **({"dtype": "bfloat16"} | settings))
    return VllmEngine(config, played.checkpoint, print, print)


def test_an_engine_that_computes_in_another_dtype_than_the_key_says_is_refused(played: Played) -> None:
    engine = engine_at(played)
    assert ask(engine, played) == ["4"]
    engine.close()
    with pytest.raises(EngineError, match=r"computes in bfloat16, the campaign says engine\.dtype: float32; .*--dtype"):
        ask(engine_at(played, dtype="float32"), played)
    assert played.times("/v1/completions") == 1


def test_what_the_engine_would_cut_short_is_not_asked(played: Played) -> None:
    engine = engine_at(played)
    assert ask(engine, played, "word " * 60) == ["4"]
    with pytest.raises(
        EngineError, match=r"a prompt of 61 tokens and an answer of max_new_tokens 4 need more than the 64"
    ):
        ask(engine, played, "word " * 61)
    with pytest.raises(EngineError, match=r"raise engine\.max_model_len"):
        engine.sample(played.checkpoint, "Q:", 1, temperature=1.0, top_p=1.0, seed=0, max_new_tokens=64, batch_size=1)
    assert played.times("/v1/completions") == 1
    engine.close()


def test_a_stop_that_is_one_token_is_given_as_that_too(played: Played) -> None:
    engine = engine_at(played)
    ask(engine, played, stop=("<end_of_turn>", "Next question:"))
    (asked,) = [body for name, body in played.asked if name == "/v1/completions"]
    assert asked["stop_token_ids"] == [7] and set(asked["stop"]) == {"<end_of_turn>", "Next question:"}
    engine.close()


def test_no_request_has_more_prompts_and_stops_than_vllm_takes(played: Played) -> None:
    engine = engine_at(played)
    stops = ("one", "a b", "c d", "e f", "4", "g h")  # of which those of one token find no room, but are told as tokens
    given = engine.answer(played.checkpoint, None, ["Q:"] * 2100, max_new_tokens=4, batch_size=1, stop=stops)
    asked = [body for name, body in played.asked if name == "/v1/completions"]
    assert [len(body["prompt"]) for body in asked] == [1024, 1024, 52]
    assert all((body["stop"], body["stop_token_ids"]) == (["a b", "c d", "e f", "g h"], [7, 7]) for body in asked)
    assert [one.text for one in given] == [""] * 2100  # cut at "4", which the engine wrote
    engine.close()


@pytest.mark.parametrize("said", [b"<html>", b"{}", b"[]", b"packed, but not by gzip"])
@pytest.mark.parametrize("where", ["/version", "selfdev_sums", "/v1/completions"])
def test_a_foreign_server_is_told_as_one(played: Played, where: str, said: bytes) -> None:
    played.wrong[where] = said
    engine = engine_at(played)
    with pytest.raises(EngineError, match=r"answers, but not as a vLLM engine .*`selfdev vllm start`"):
        ask(engine, played)
    engine.close()


def test_weights_that_could_not_be_proved_do_not_count_as_held(played: Played) -> None:
    engine = engine_at(played)
    played.wrong["selfdev_sums"] = b"{}"
    with pytest.raises(EngineError):
        ask(engine, played)
    played.wrong.clear()
    assert ask(engine, played) == ["4"] and played.times("selfdev_sums") == 2
    ask(engine, played)
    assert played.times("selfdev_sums") == 2
    engine.close()
