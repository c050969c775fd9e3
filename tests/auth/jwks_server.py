"""An identity provider as far as its published keys go: a real HTTP server on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from devservers.process import free_port
from tests.support.waiting import TIMEOUT


class JwksServer:
    """Its answers may change at any time; `up()` and `down()` as often as wanted."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/jwks.json"
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b""
        self.requests = 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        self._server: ThreadingHTTPServer | None = None

    def publish(self, *keys: dict[str, Any]) -> None:
        self.body = json.dumps({"keys": keys}).encode()

    def up(self) -> None:
        ours = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                ours.requests += 1
                ours.may_answer.wait(TIMEOUT)
                self.send_response(ours.status)
                for name, value in ours.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(ours.body)))
                self.end_headers()
                self.wfile.write(ours.body)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = False  # closing waits for the answers under way
        threading.Thread(target=self._server.serve_forever, args=(0.01,)).start()

    def down(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@contextmanager
def running_jwks_server() -> Iterator[JwksServer]:
    server = JwksServer()
    server.up()
    try:
        yield server
    finally:
        server.may_answer.set()
        server.down()
