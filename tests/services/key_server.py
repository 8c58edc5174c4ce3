"""The web server of an identity provider: real, on this machine, stopped and broken by tests.

with KeyServer() as provider:
    provider.pages["/keys"] = Page(b"…")
    provider.url                      # http://127.0.0.1:PORT
    provider.asked                    # paths, in order
    provider.forms                    # what was posted
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl


@dataclass(slots=True)
class Page:
    """One answer."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    length: int | None = None  # said; None = the true one, -1 = chunked
    let: threading.Event | None = None  # waited for before the body


class KeyServer:
    """Serves `pages`; whatever else is asked for is 404."""

    def __init__(self, tls: tuple[Path, Path] | None = None) -> None:
        """`tls`: certificate and key."""
        self.pages: dict[str, Page] = {}
        self.asked: list[str] = []
        self.forms: list[dict[str, str]] = []
        self.answer: Callable[[dict[str, str]], Page] = lambda _: Page(b"{}", status=404)
        self._tls = tls
        self._port = 0
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Serve; the same port at every start."""
        asked, pages, forms = self.asked, self.pages, self.forms

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:  # noqa: N805 - `self` is the provider
                asked.append(handler.path)
                sent = handler.rfile.read(int(handler.headers["Content-Length"]))
                forms.append(dict(parse_qsl(sent.decode())))
                _send(handler, self.answer(forms[-1]))

            def do_GET(self) -> None:
                asked.append(self.path)
                _send(self, pages.get(self.path, Page(b"{}", status=404)))

            def log_message(self, *_: object) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._port = server.server_port
        if self._tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self._tls)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # type: ignore[method-assign] # who hangs up early
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self._server = server

    def stop(self) -> None:
        """Nobody listens any more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        for page in self.pages.values():
            if page.let is not None:
                page.let.set()
        self.stop()


def _send(handler: BaseHTTPRequestHandler, page: Page) -> None:
    handler.send_response(page.status)
    for name, value in page.headers.items():
        handler.send_header(name, value)
    if page.length == -1:
        handler.send_header("Transfer-Encoding", "chunked")
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(page.body), page.body)
    else:
        said = len(page.body) if page.length is None else page.length
        handler.send_header("Content-Length", str(said))
        body = page.body
    handler.end_headers()
    if page.let is not None:
        handler.wfile.flush()
        page.let.wait(30)
    handler.wfile.write(body)
