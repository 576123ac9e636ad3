"""The local Prefect server: whose it is, and at which port."""

from __future__ import annotations

import http.server
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import NoReturn

import httpx
import psutil
import pytest
from prefect.exceptions import ObjectNotFound

from flows import server
from flows.revive import through_absence
from selfdev_core.errors import SelfdevError


class _Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.mark.slow
def test_somebody_elses_server_at_the_port_is_not_taken_for_ours_and_the_port_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SELFDEV_HOME", str(tmp_path))
    foreign = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Healthy)
    threading.Thread(target=foreign.serve_forever, daemon=True).start()
    free = server._free_port
    # As when another server takes the port after we found it free.
    monkeypatch.setattr(server, "_free_port", lambda home, known: foreign.server_port if known else free(home, known))
    try:
        first = server.local_server()
        assert not first.url.endswith(f":{foreign.server_port}/api")
        assert server.running_server() == first and server.stop_server()
        monkeypatch.undo()
        monkeypatch.setenv("SELFDEV_HOME", str(tmp_path))
        assert server.local_server().url == first.url
    finally:
        server.stop_server()
        foreign.shutdown()


def test_a_local_server_that_hangs_is_stopped_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFDEV_HOME", str(tmp_path))
    hung = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        state = server.Server(hung.pid, "http://127.0.0.1:1/api", psutil.Process(hung.pid).create_time())
        (tmp_path / "prefect").mkdir()
        (tmp_path / "prefect" / "server.json").write_text(json.dumps(state._asdict()))
        assert server.running_server() is None  # it does not answer
        assert server.stop_server() and not psutil.pid_exists(hung.pid)
        assert not server.stop_server()
    finally:
        hung.kill()


@pytest.mark.parametrize(("status", "told"), [(401, "PREFECT_API_AUTH_STRING"), (409, r"refused: .*taken")])
def test_what_a_server_refuses_is_told(status: int, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.example/api")

    def run() -> NoReturn:
        request = httpx.Request("POST", "http://prefect.example/api/flows/")
        httpx.Response(status, json={"detail": "taken"}, request=request).raise_for_status()
        raise AssertionError

    with pytest.raises(SelfdevError, match=rf"http://prefect\.example/api .*{told}"):
        through_absence(run, lambda _: None)


def test_the_port_of_a_killed_server_that_is_still_ending_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as ending:
        ending.bind(("127.0.0.1", 0))
        ending.listen()
        port = ending.getsockname()[1]
        (tmp_path / "port").write_text(str(port))
        monkeypatch.setattr(server, "_PORT_SECONDS", 0.3)
        assert server._free_port(tmp_path, known=True) != port
        monkeypatch.setattr(server, "_PORT_SECONDS", 30.0)
        threading.Timer(0.5, ending.close).start()
        assert server._free_port(tmp_path, known=True) == port


def test_a_server_whose_starter_is_killed_meanwhile_is_started_again_at_its_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SELFDEV_HOME", str(tmp_path))

    def killed(_: server.Server) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "_becomes_healthy", killed)
    with pytest.raises(KeyboardInterrupt):
        server.local_server()
    url = json.loads((tmp_path / "prefect" / "server.json").read_text())["url"]
    assert url == f"http://127.0.0.1:{server._free_port(tmp_path / 'prefect', known=True)}/api"


def test_a_run_that_the_server_lost_is_begun_anew_three_times_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.example/api")
    lost: list[int] = []
    notes: list[str] = []

    def run(times: int) -> str:
        if len(lost) < times:
            lost.append(1)
            raise ObjectNotFound(http_exc=httpx.HTTPError("404"))
        return "done"

    assert through_absence(lambda: run(2), notes.append) == "done" and len(notes) == 2
    lost.clear()
    with pytest.raises(SelfdevError, match="loses the campaign's runs"):
        through_absence(lambda: run(3), notes.append)
