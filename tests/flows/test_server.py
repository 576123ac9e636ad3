"""The local Prefect server: whose it is, and at which port."""

from __future__ import annotations

import http.server
import threading
from pathlib import Path

import pytest

from flows import server


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
