"""One HTTP connection per thread and process. Loaded with the first request, not before."""

from __future__ import annotations

import http.client
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gateway.client.replies import Response
from gateway.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    from ssl import SSLContext

REPLY_BYTES_MAX = 64 << 20
TIMEOUT_SECONDS = 60.0
Body = bytes | bytearray | memoryview


class Connections:
    """The connections of one client to one server. Safe to use from many threads."""

    def __init__(self, server: str, tls: Callable[[], SSLContext]) -> None:
        """Name the server (base URL); nothing is opened yet; `tls` is asked for `https`."""
        self._server, self._tls = server, tls
        self._local = threading.local()

    def close(self) -> None:
        """Close this thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    def is_fresh(self) -> bool:
        """Whether this thread has no connection yet; a forked process has none."""
        local = self._local
        return getattr(local, "connection", None) is None or local.pid != os.getpid()

    def send(
        self, method: str, target: str, body: Body | None, headers: dict[str, str]
    ) -> Response:
        """One request and its answer; Unavailable when there is none."""
        if self.is_fresh():
            self._local.connection = self._open()
            self._local.pid = os.getpid()
        connection = self._local.connection
        try:
            connection.request(method, target, body, headers)
            reply = connection.getresponse()
            data = reply.read(REPLY_BYTES_MAX + 1)
            if reply.length and len(data) <= REPLY_BYTES_MAX:  # `read(n)` takes a torn body as one
                raise http.client.IncompleteRead(data, reply.length)
        except (OSError, http.client.HTTPException) as cause:
            self.close()
            raise Unavailable(
                f"no gateway answers at `{self._server}`",
                advice="start it with `gateway serve`, or check --server",
            ) from cause
        if len(data) > REPLY_BYTES_MAX:
            self.close()
            raise Unavailable("the server's answer is larger than any answer of a gateway")
        names = {name.lower(): value for name, value in reply.getheaders()}
        return Response(status=reply.status, headers=names, body=data)

    def _open(self) -> http.client.HTTPConnection:
        parts = urlsplit(self._server)
        host = parts.hostname or ""
        if parts.scheme != "https":
            return _Plain(host, parts.port, timeout=TIMEOUT_SECONDS)
        return _Secure(host, parts.port, timeout=TIMEOUT_SECONDS, context=self._tls())


def tls_context(authority: Path | None) -> SSLContext:
    """TLS 1.3 with the system's authorities and one more; ConfigError when it cannot be read."""
    import ssl

    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        if authority is not None:
            context.load_verify_locations(authority)
    except (OSError, ssl.SSLError) as cause:
        raise ConfigError(f"`{authority}` is not a readable PEM file") from cause
    return context


class _Plain(http.client.HTTPConnection):
    """Closes itself with its thread or its client."""

    def __del__(self) -> None:
        """Give the socket back."""
        self.close()


class _Secure(http.client.HTTPSConnection):
    """Closes itself with its thread or its client."""

    def __del__(self) -> None:
        """Give the socket back."""
        self.close()
