"""Repositories of the Hugging Face Hub, from a cache as huggingface_hub lays it out and from a server on loopback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from selfdev_core.errors import CheckpointError
from selfdev_core.merging.hub import anchored, is_repository, resolve

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# In a process of its own: huggingface_hub reads its environment once.
_ASK = """\
import sys
from selfdev_core.errors import CheckpointError
from selfdev_core.merging.hub import resolve
try:
    found = resolve(sys.argv[1], "models.seed")
    print(found.name, *sorted(path.name for path in found.folder.iterdir()))
except CheckpointError as error:
    print("refused:", error)
"""


def _ask(text: str, cache: Path, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    own = {"HF_HOME": str(cache), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", _ASK, text], env=kept | own, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_names_a_repository_and_what_a_folder(tmp_path: Path) -> None:
    for text in ("openchat/openchat-3.5-1210", "org/name@main", "org/name@v1.0", f"a/b@{COMMIT}", "a/b@refs/pr/3"):
        assert is_repository(text), text
    for text in ("./models/seed", "/srv/seed", "seed", "a/b/c", "~/seed", "a/b@", "s3://a/b", "../a/b"):
        assert not is_repository(text), text
    assert anchored("org/name", tmp_path) == "org/name"
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert anchored("org/name", tmp_path) == str(tmp_path / "org" / "name")  # a folder that is there wins
    assert resolve(str(tmp_path / "org" / "name"), "models.seed").name == str(tmp_path / "org" / "name")


def test_a_revision_is_found_in_the_cache_while_offline(pico: Any, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--org--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    shutil.copytree(pico.seed, repository / "snapshots" / COMMIT)
    for text in ("org/name", "org/name@main", f"org/name@{COMMIT}"):
        found = _ask(text, tmp_path, HF_HUB_OFFLINE="1")
        assert found.startswith(f"org/name@{COMMIT} ") and "model.safetensors" in found, found
    refused = _ask("org/other@v2", tmp_path, HF_HUB_OFFLINE="1")
    assert refused.startswith("refused: models.seed: org/other@v2 is no folder here, and not in the Hub's cache")
    assert refused.endswith("hf download org/other --revision v2")


@contextmanager
def _hub(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """As much of the Hub's HTTP interface as a snapshot needs; tells which files were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(True)

        def do_HEAD(self) -> None:
            self._answer(False)

        def _answer(self, body: bool) -> None:
            path = self.path.split("?")[0]
            if path.startswith("/api/models/org/name/revision/") and path.endswith(("/main", COMMIT)):
                names = [{"rfilename": one.name} for one in sorted(folder.iterdir())]
                files = [{"type": "file", "path": n["rfilename"], "size": 1, "oid": "0"} for n in names]
                data = json.dumps({"id": "org/name", "sha": COMMIT, "siblings": names, "files": files}).encode()
            elif path.startswith(f"/api/models/org/name/tree/{COMMIT}"):
                data = json.dumps(
                    [
                        {"type": "file", "path": one.name, "size": one.stat().st_size, "oid": f"{i:040x}"}
                        for i, one in enumerate(sorted(folder.iterdir()))
                    ]
                ).encode()
            elif path.startswith(f"/org/name/resolve/{COMMIT}/") and (folder / Path(path).name).is_file():
                asked.append(Path(path).name)
                data = (folder / Path(path).name).read_bytes()
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RevisionNotFound" if "/org/name/" in path else "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{len(asked):040x}"')
            self.end_headers()
            if body:
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_repository_is_fetched_without_pickles_and_code(pico: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pico.seed, tmp_path / "served"))
    for name in ("pytorch_model.bin", "modeling_name.py", "consolidated.safetensors"):
        (folder / name).write_bytes(b"never")
    with _hub(folder) as (endpoint, asked):
        found = _ask("org/name", tmp_path / "home", HF_ENDPOINT=endpoint, HF_HUB_DISABLE_XET="1")
        assert found.startswith(f"org/name@{COMMIT} ") and "model.safetensors" in found, found
        assert "config.json" in asked and not {"pytorch_model.bin", "modeling_name.py", "consolidated.safetensors"} & {
            *asked
        }
        for text in ("org/absent", "org/name@absent"):
            refused = _ask(text, tmp_path / "home", HF_ENDPOINT=endpoint)
            assert refused.startswith(
                f"refused: models.seed: {text} is no folder here, and the Hub does not give it"
            ), refused
    assert resolve(str(folder), "models.seed").folder == folder


def test_a_name_that_is_neither_is_refused_where_it_stands(tmp_path: Path) -> None:
    from selfdev_core.merging.checkpoints import Checkpoint

    with pytest.raises(CheckpointError, match="no such checkpoint folder"):
        Checkpoint(resolve(str(tmp_path / "absent"), "models.seed").folder)
