"""OpenLineage events by HTTP, as every consumer of OpenLineage takes them (Marquez, DataHub …).

`https://marquez.example/api/v1/lineage`; without a path that one. `key-file=/path` in the query
names a file (0600) with what goes out as `Authorization: Bearer …`, `ca=/path` a PEM file of the
authority to trust besides the system's. Redirects are not followed. Standard library only.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlencode

from gateway.crypto import private_files
from gateway.errors import ConfigError, GatewayError, InvalidInput, Unavailable

SECONDS_MAX = 10.0
_PATH = "/api/v1/lineage"
_KEY_BYTES_MAX = 16 << 10
_ANSWER_BYTES_MAX = 64 << 10
# What the receiver may say otherwise tomorrow: keys, paths and limits are set by people.
_LATER = frozenset({401, 403, 404, 407, 408, 409, 425, 429})
_CLIENT_ERRORS = range(400, 500)
_DONE = range(200, 300)
# A receiver that answers in two packets waits for our acknowledgement of the first, and the
# kernel holds that back for 40 ms, unless it is told otherwise anew for each answer (tcp(7)).
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)


def connect(parts: SplitResult) -> HttpSink:
    """The plug of `http:` and `https:`. Raises ConfigError."""
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.fragment or parts.username or parts.password:
        raise ConfigError("a lineage sink is a URL without user, password and fragment")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    key_file, ca = query.pop("key-file", None), query.pop("ca", None)
    if ca is not None and parts.scheme != "https":
        raise ConfigError("`ca` is for https")
    target = (parts.path if parts.path not in ("", "/") else _PATH) + (
        f"?{urlencode(query)}" if query else ""
    )
    return HttpSink(
        (parts.scheme, host, port),
        target,
        key_file=_absolute(key_file),
        authority=_absolute(ca),
    )


def _absolute(text: str | None) -> Path | None:
    if text is None:
        return None
    path = Path(text)
    if not path.is_absolute():
        raise ConfigError(f"`{text[:200]}` is not an absolute path")
    return path


class HttpSink:
    """A `gateway.ports.LineageSink` over one kept connection."""

    def __init__(
        self,
        server: tuple[str, str, int | None],
        target: str,
        *,
        key_file: Path | None = None,
        authority: Path | None = None,
    ) -> None:
        """Name the receiver: (scheme, host, port) and path; nothing is opened yet."""
        self._server, self._target = server, target
        self._key_file, self._authority = key_file, authority
        self._connection: http.client.HTTPConnection | None = None

    def emit(self, event: bytes) -> None:
        """POST one event."""
        try:
            status = self._post(event)
        except (OSError, http.client.HTTPException, GatewayError) as cause:
            self.close()
            told = getattr(cause, "message", None) or getattr(cause, "strerror", None)
            raise Unavailable(
                f"`{self._server[1]}` does not take events: {told or type(cause).__name__}"
            ) from cause
        if status in _DONE:
            return
        self.close()
        if status in _CLIENT_ERRORS and status not in _LATER:
            raise InvalidInput(f"`{self._server[1]}` answers {status}")
        raise Unavailable(f"`{self._server[1]}` answers {status}")

    def _post(self, event: bytes) -> int:
        headers = {"Content-Type": "application/json", "User-Agent": "dataset-gateway"}
        if self._key_file is not None:
            key = private_files.read_private(self._key_file, bytes_max=_KEY_BYTES_MAX)
            headers["Authorization"] = f"Bearer {key.decode('ascii', 'replace').strip()}"
        if self._connection is None:
            self._connection = self._connect()
        self._connection.request("POST", self._target, event, headers)
        if _QUICKACK is not None and self._connection.sock is not None:
            self._connection.sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        answer = self._connection.getresponse()
        answer.read(_ANSWER_BYTES_MAX)
        if not answer.isclosed():  # longer than anything there is to say
            self.close()
        return answer.status

    def _connect(self) -> http.client.HTTPConnection:
        scheme, host, port = self._server
        if scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=SECONDS_MAX)
        context = ssl.create_default_context()
        if self._authority is not None:
            context.load_verify_locations(self._authority)
        return http.client.HTTPSConnection(host, port, timeout=SECONDS_MAX, context=context)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.close()
            self._connection = None
