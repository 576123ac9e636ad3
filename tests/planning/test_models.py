"""What a plan knows of the models: from their folders, from a Hub, from a name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from selfdev_core.errors import ConfigError
from selfdev_core.planning.lookup import _is_whole, count_tokens
from selfdev_core.planning.models import Remote, RemoteFile, ask_hub, facts_of_hub
from selfdev_core.planning.shapes import shape_of
from tests.planning.test_plan import campaign, nobody, planned
from tests.planning.test_shapes import MISTRAL


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A Hub on loopback with one model, `lab/small`; the list fills with what is asked of it."""
    asked: list[str] = []
    commit = "0" * 39 + "1"
    config = json.dumps(MISTRAL).encode()
    info = {
        "id": "lab/small", "modelId": "lab/small", "sha": commit, "tags": [], "private": False, "downloads": 0, "likes": 0,
        "siblings": [{"rfilename": "model.safetensors", "size": 5_000_000}, {"rfilename": "config.json", "size": len(config)},
                     {"rfilename": "pytorch_model.bin", "size": 9_000_000}],
    }  # fmt: skip

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if self.path.startswith("/api/models/lab/small"):
                self._reply(json.dumps(info).encode())
            elif self.path.endswith("/config.json"):
                self._reply(config)
            else:
                self._reply(b"{}", 404)

        do_HEAD = do_GET

        def _reply(self, body: bytes, status: int = 200) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), "ETag": '"1"', "X-Repo-Commit": commit}.items():
                self.send_header(name, value)
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield asked
    server.shutdown()
    server.server_close()


def test_a_hub_is_asked_for_file_sizes_and_the_shape_only(hub: list[str], tmp_path: Path) -> None:
    script = (
        "from selfdev_core.planning.models import ask_hub, facts_of_hub\n"
        "found = facts_of_hub('seed', 'lab/small', None, ask_hub)\n"
        "print(found.size, found.download, found.parameters, found.how)\n"
        "from selfdev_core.errors import ConfigError\n"
        "try: facts_of_hub('x', 'lab/nothing-7b', None, ask_hub)\n"
        "except ConfigError as error: print(error)\n"
    )
    told = online(script, tmp_path, os.environ["HF_ENDPOINT"])
    size = 5_000_000 + len(json.dumps(MISTRAL))  # not the pickled weights
    assert told[0] == f"{size} {size} 7241732096 file sizes from the Hub"
    assert "the Hub has no such model" in told[1]
    assert not any(path.endswith(".safetensors") for path in hub)


def test_what_a_hub_tells_is_not_kept(hub: list[str], tmp_path: Path) -> None:
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    scratch.mkdir()
    script = (
        f"import tempfile; tempfile.tempdir = {str(scratch)!r}\n"
        "from selfdev_core.planning.models import ask_hub\n"
        "print(ask_hub('lab/small', None).config['hidden_size'])\n"
    )
    assert online(script, home, os.environ["HF_ENDPOINT"]) == ["4096"]
    assert [path for folder in (home, scratch) for path in folder.rglob("*")] == []


def test_a_disk_that_cannot_be_written_is_not_taken_for_a_hub_that_does_not_answer(
    hub: list[str], tmp_path: Path
) -> None:
    script = (
        "import resource, tempfile\n"
        "from selfdev_core.errors import ConfigError\n"
        "from selfdev_core.planning.models import ask_hub\n"
        "tempfile.gettempdir()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "try: print(ask_hub('lab/small', None))\n"
        "except ConfigError as error: print(error)\n"
    )
    (told,) = online(script, tmp_path, os.environ["HF_ENDPOINT"])
    assert told.startswith("lab/small: its config.json cannot be put into a temporary folder")


def test_a_hub_that_cannot_be_reached_tells_nothing_and_is_no_error(tmp_path: Path) -> None:
    script = "from selfdev_core.planning.models import ask_hub\nprint(ask_hub('lab/small', None))"
    assert online(script, tmp_path, "http://127.0.0.1:1") == ["None"]


def online(script: str, home: Path, endpoint: str) -> list[str]:
    """What it prints, in a process of its own, since the library reads its endpoint when it is imported."""
    environment = os.environ | {"HF_HUB_OFFLINE": "0", "HF_HOME": str(home), "HF_ENDPOINT": endpoint}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_only_what_a_campaign_fetches_is_counted_and_pickled_weights_must_be_converted() -> None:
    def told(*names: str) -> Remote:
        return Remote(tuple(RemoteFile(name, 10**9) for name in names), MISTRAL)

    shards = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    apart = ["consolidated.safetensors", "onnx/model.safetensors", "pytorch_model.bin", "code.py"]
    whole = facts_of_hub("seed", "lab/a", None, lambda *_: told(*shards, "tokenizer.model", *apart))
    assert (whole.download, whole.how) == (3e9, "file sizes from the Hub")
    pickled = facts_of_hub("seed", "lab/b", None, lambda *_: told(*apart, "tokenizer.json"))
    assert "no safetensors" in pickled.how and "convert it first" in pickled.how
    assert pickled.download == 2 * 7_241_732_096


def test_a_model_of_which_a_shard_is_missing_is_not_on_this_machine(tmp_path: Path) -> None:
    shards = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    (tmp_path / shards[0]).touch()
    assert not _is_whole(tmp_path)
    index = {"weight_map": {"a": shards[0], "b": shards[1]}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert not _is_whole(tmp_path)
    (tmp_path / shards[1]).touch()
    assert _is_whole(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "mod')
    assert not _is_whole(tmp_path)


def test_without_a_hub_the_name_or_a_given_shape_tells_the_size() -> None:
    assert ask_hub("lab/small", None) is None  # HF_HUB_OFFLINE is set for tests
    guessed = facts_of_hub("seed", "openchat/OpenChat-7B-x", None, nobody)
    assert guessed.size == 14e9 and guessed.shape is None and "7B" in guessed.how
    assert facts_of_hub("x", "Qwen/Qwen2.5-0.5B-Instruct", None, nobody).parameters == 0.5e9
    with pytest.raises(ConfigError, match="--shape"):
        facts_of_hub("x", "openchat/openchat-3.5-1210", None, nobody)
    given = facts_of_hub("x", "openchat/openchat-3.5-1210", None, nobody, shape_of(MISTRAL, "c"))
    assert given.size == 2 * 7_241_732_096 and "given shape" in given.how


def test_a_size_that_is_guessed_from_a_name_is_bounded_by_the_largest_model_of_that_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = {"seed": "lab/a-1B", "experts": {"b": "lab/b-1B"}}
    config = campaign(models=models, resources={"save_steps": 5})
    lines = planned(config)
    llama = 1_235_814_400  # parameters of Llama-3.2-1B
    bounds = {
        ("downloads", "lab/a-1B"): 2,
        ("downloads", "all models"): 4,
        ("disk", "scratch (TMPDIR): merged weights"): 2 * 2,
        ("disk", "factories in the store"): 2 * 3 * 4,
        ("disk", "scratch (TMPDIR): factories in training"): 2 * 4,
        ("disk", "saves of training in the cache"): 2 * 3 * 4,
        ("gpu memory", "weights"): 2 * 4 * 2,
    }
    for key, bytes_per_parameter in bounds.items():
        assert (lines[key].at_most or 0.0) >= bytes_per_parameter * llama / 1e9, key
        assert (lines[key].expected or 0.0) <= bytes_per_parameter, key  # as the name says
    monkeypatch.setattr("selfdev_core.planning.models.NAMED_WITHIN", 1.0)
    exact = planned(config)
    for key in (("time", "merging"), ("disk", "all")):
        assert (exact[key].at_most or 0.0) < (lines[key].at_most or 0.0) and exact[key].expected == lines[key].expected


def test_prompts_are_counted_with_the_models_own_tokenizer(tmp_path: Path) -> None:
    from selfdev_core.miniature.families import family_folder

    text = "def merge_models(model_dict, device):"
    assert count_tokens(text, family_folder("arithmetic") / "seed") < len(text) / 2
    assert count_tokens("x" * 35, tmp_path) == 10
