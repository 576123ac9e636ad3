"""An HTTP proxy that does to requests what networks and busy services do: refuse, throttle, reset, stall, cut short."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

FAULTS = ("500", "503", "429", "timeout", "reset", "reset-after", "slow", "truncated", "shortened", "garbage")
_BODY = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>"
_CODES = {"500": "InternalError", "503": "SlowDown", "429": "TooManyRequests"}
_PASSED = {"connection", "transfer-encoding", "keep-alive", "content-length", "date", "server"}

Choose = Callable[[str, str], str]  # method, path → a fault or ""
Answered = Callable[[str, str, int], None]  # method, path, the service's status


class FaultyProxy:
    """Forwards to `service`. `choose(method, path)` names the fault of a request, or nothing; `answered` is told what the
    service did with each request that reached it.

    `500`, `503`, `429`: refused, nothing done. `timeout`: no answer until the client gives up. `reset`: connection reset
    before anything was done; `reset-after`: done, then reset. `slow`: answered late. `truncated`: the connection ends
    within the body. `shortened`: half the body, with a length that fits it. `garbage`: an answer that is no HTTP.
    """

    def __init__(self, service: str) -> None:
        self._service = urlsplit(service)
        self.choose: Choose = lambda method, path: ""
        self.answered: Answered = lambda method, path, status: None
        self.stall = 5.0  # seconds without an answer
        self.older = False  # a service that knows no conditional writes, and says so
        self.seen: list[tuple[str, str, str]] = []
        self._away = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # headers and body are two writes: the second would wait 40 ms for an ACK

            def handle_one_request(self) -> None:
                with suppress(ConnectionError, TimeoutError):
                    super().handle_one_request()

            def _serve(self) -> None:
                proxy._serve(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def go_away(self) -> None:
        """From now on every connection is reset."""
        self._away.set()

    def come_back(self) -> None:
        self._away.clear()

    def _serve(self, client: BaseHTTPRequestHandler) -> None:
        body = _body_of(client)
        fault = "reset" if self._away.is_set() else self.choose(client.command, client.path)
        self.seen.append((client.command, client.path, fault))
        if self.older and "If-None-Match" in client.headers:
            _answer(client, 501, {"Content-Type": "application/xml"}, _BODY.format(code="NotImplemented").encode())
        elif fault in _CODES:
            _answer(client, int(fault), {"Content-Type": "application/xml"}, _BODY.format(code=_CODES[fault]).encode())
        elif fault == "timeout":
            time.sleep(self.stall)
            client.close_connection = True
        elif fault == "reset":
            _reset(client)
        elif fault == "garbage":
            client.wfile.write(b"\x00\x01 what?\r\n\r\n")
            client.close_connection = True
        else:
            self._forward(client, body, fault)

    def _forward(self, client: BaseHTTPRequestHandler, body: bytes, fault: str) -> None:
        upstream = http.client.HTTPConnection(self._service.hostname or "", self._service.port, timeout=30)
        headers = {name: value for name, value in client.headers.items() if name.lower() not in ("expect",)}
        upstream.request(client.command, client.path, body=body, headers=headers)
        answer = upstream.getresponse()
        content = answer.read()
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in _PASSED}
        length = answer.getheader("Content-Length")
        upstream.close()
        self.answered(client.command, client.path, answer.status)
        if fault == "slow":
            time.sleep(0.5)
        if fault == "reset-after":
            _reset(client)
        elif fault == "truncated" and len(content) > 1:
            _answer(client, answer.status, kept, content[: len(content) // 2], len(content))
            client.wfile.flush()
            client.close_connection = True
        elif fault == "shortened" and client.command == "GET" and len(content) > 1:
            checks = ("x-amz-checksum", "etag", "content-md5")
            kept = {name: value for name, value in kept.items() if not name.lower().startswith(checks)}
            _answer(client, answer.status, kept, content[: len(content) // 2])
        else:
            given = int(length) if client.command == "HEAD" and length else None
            _answer(client, answer.status, kept, content, given)


def _body_of(client: BaseHTTPRequestHandler) -> bytes:
    if "chunked" in client.headers.get("Transfer-Encoding", ""):
        parts = []
        while size := int(client.rfile.readline().split(b";")[0], 16):
            parts.append(client.rfile.read(size))
            client.rfile.readline()
        client.rfile.readline()
        del client.headers["Transfer-Encoding"]
        return b"".join(parts)
    return client.rfile.read(int(client.headers.get("Content-Length", 0)))


def _answer(
    client: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes, length: int | None = None
) -> None:
    client.send_response(status)
    for name, value in headers.items():
        client.send_header(name, value)
    client.send_header("Content-Length", str(len(body) if length is None else length))
    client.end_headers()
    if client.command != "HEAD":
        client.wfile.write(body)


def _reset(client: BaseHTTPRequestHandler) -> None:
    client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close_connection = True
    client.connection.close()
