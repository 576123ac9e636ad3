"""A benchmark from the Hugging Face Hub: a real HTTP endpoint on this machine serves it, then the Hub's own cache."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from selfdev_core.evaluation.benchmarks.gsm8k import GSM8K

SHOW = """
import sys
from selfdev_core.errors import ConfigError
from selfdev_core.evaluation.benchmarks.gsm8k import GSM8K
try:
    print(*[row.question for part in ("train", "test") for row in GSM8K.rows(part, None, sys.argv[1] or None)], sep="|")
except ConfigError as error:
    print("refused:", error)
"""


def _parquet(part: str) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = io.BytesIO()
    pq.write_table(pa.table({"question": [f"{part} {i}?" for i in range(2)], "answer": ["#### 1", "#### 2"]}), data)
    return data.getvalue()


class _Hub(BaseHTTPRequestHandler):
    """As much of the Hub's API as a download of single files asks for."""

    files: ClassVar[dict[str, bytes]] = {}
    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        self.asked.append(self.path)
        path = self.path.partition("?")[0]
        api = f"/api/datasets/{GSM8K.hub_id}"
        resolve = f"/datasets/{GSM8K.hub_id}/resolve/{GSM8K.revision}/"
        if path == f"{api}/revision/{GSM8K.revision}":
            siblings = [{"rfilename": name} for name in self.files]
            self._send(json.dumps({"id": GSM8K.hub_id, "sha": GSM8K.revision, "siblings": siblings}).encode(), body)
        elif path == f"{api}/tree/{GSM8K.revision}":
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in self.files.items()
            ]
            self._send(json.dumps(entries).encode(), body)
        elif path.removeprefix(resolve) in self.files:
            self._send(self.files[path.removeprefix(resolve)], body)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RevisionNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _send(self, data: bytes, body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", GSM8K.revision)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def hub() -> Iterator[str]:
    parts = {f"main/{part}-00000-of-00001.parquet": _parquet(part) for part in ("train", "test")}
    _Hub.files = parts | {"socratic/test-00000-of-00001.parquet": _parquet("other"), "README.md": b"# GSM8K"}
    _Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def _show(home: Path, endpoint: str, revision: str = "", offline: bool = False) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": str(int(offline))}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", SHOW, revision], env=environment, cwd=root, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_a_benchmark_comes_from_the_hub_at_its_pinned_commit_and_then_from_the_cache(hub: str, tmp_path: Path) -> None:
    assert _show(tmp_path, hub) == "train 0?|train 1?|test 0?|test 1?"
    fetched = [path for path in _Hub.asked if "/resolve/" in path]
    assert fetched and all("/main/" in path and GSM8K.revision in path for path in fetched)
    assert _show(tmp_path, hub, offline=True) == "train 0?|train 1?|test 0?|test 1?"


@pytest.mark.slow
def test_what_the_hub_does_not_have_is_refused_with_a_way_out(hub: str, tmp_path: Path) -> None:
    told = _show(tmp_path, hub, revision="0" * 40)
    assert told.startswith("refused: questions.benchmark: openai/gsm8k at 000000000000 cannot be had")
    assert "give its folder as questions.path" in told
    assert "refused: " in _show(tmp_path / "empty", hub, offline=True)
