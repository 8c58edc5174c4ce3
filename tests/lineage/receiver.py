"""A consumer of OpenLineage over real HTTP that fails, hangs and recovers when it is told to."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver:
    """`url` takes POSTs; `events` are those answered with 2xx, in order."""

    def __init__(self) -> None:
        self.status = 201
        self.hangs = False
        self.is_closing = False
        self.posts = 0
        self.events: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver.posts += 1
                raw = self.rfile.read(int(self.headers["content-length"]))
                receiver.headers.append({**self.headers, "path": self.path})
                while receiver.hangs and not receiver.is_closing:
                    time.sleep(0.05)
                status = receiver.status
                if 200 <= status < 300:
                    receiver.events.append(json.loads(raw))
                self.send_response(status)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                """A sender was killed: that is what the tests do."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def wait(self, events: int, seconds: float = 30.0) -> list[dict[str, Any]]:
        """Once so many events have come."""
        end = time.monotonic() + seconds
        while len(self.events) < events:
            assert time.monotonic() < end, f"{len(self.events)} of {events} events came"
            time.sleep(0.02)
        return list(self.events)

    def wait_posts(self, posts: int, seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while self.posts < posts:
            assert time.monotonic() < end, f"{self.posts} of {posts} posts came"
            time.sleep(0.02)

    def close(self) -> None:
        self.is_closing = True
        self._server.shutdown()
        self._server.server_close()
