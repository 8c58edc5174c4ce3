"""The one kind of connection that control opens outwards: GET a small JSON document, POST a text.

Only a URL of the operator's table is asked, so a stranger cannot choose the host; and what
that host is must be as the table says: `https`, a public address. The name is resolved once,
every address it has must be permitted, and one of those is connected to (no rebinding); no
redirect, no proxy, no cookie, no credential. Non-blocking, with one deadline over it all.
Sent and split by hand because no library of ours connects to an address under another name
without threads; what comes back is parsed by the standard library's `http.client`.
"""

from __future__ import annotations

import asyncio
import io
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from gateway.errors import InvalidInput, Unavailable

SECONDS_MAX = 10.0  # name, connection, handshake and answer together
BODY_BYTES_MAX = 256 << 10
_HEAD_BYTES_MAX = 32 << 10
_OK = 200
_URL_CHARS_MAX = 2000
_CONTENT_TYPES = ("application/json", "application/jwk-set+json")
# Public addresses behind which a cloud answers its own machines with their secrets (Azure).
_METADATA = frozenset({ip_address("168.63.129.16")})
# IPv6 that a translator turns into an IPv4 address of its reader's choice (RFC 6052, RFC 8215).
_TRANSLATED = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What besides public hosts over https one row of the table permits."""

    loopback: bool = False  # this machine, also over plain http
    networks: tuple[IPv4Network | IPv6Network, ...] = ()  # private ones, named
    authority: Path | None = None  # PEM file trusted instead of the system's authorities


def reach_of(entry: Mapping[str, Any], base: Path) -> Reach:
    """`loopback`, `networks` and `ca` of one row of a table in `base`; raises InvalidInput."""
    authority, networks, loopback = None, entry.get("networks", []), entry.get("loopback", False)
    if "ca" in entry:
        authority = base / Path(str(entry["ca"])).expanduser()
        if not authority.is_file():
            raise InvalidInput(f"there is no file `{authority}`")
    if not isinstance(networks, list) or not isinstance(loopback, bool):
        raise InvalidInput("`networks` is a list, `loopback` true or false")
    try:
        named = tuple(ip_network(text if isinstance(text, str) else "") for text in networks)
    except ValueError as cause:
        raise InvalidInput(f"`networks`: {cause}") from cause
    return Reach(loopback=loopback, networks=named, authority=authority)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    content_type: str  # lower case, without parameters
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Where a JSON document is, or whom a text is sent to: checked when the table is read."""

    host: str
    port: int
    target: str  # path and query
    is_tls: bool
    reach: Reach

    @classmethod
    def at(cls, url: str, reach: Reach) -> Document:
        """InvalidInput when the URL is none that may ever be asked."""
        parts, port = _split(url)
        host = parts.hostname or ""
        if not host or parts.username is not None or parts.password is not None or parts.fragment:
            raise InvalidInput(f"`{url[:200]}` is not the URL of a document")
        if parts.scheme != "https" and not (parts.scheme == "http" and reach.loopback):
            raise InvalidInput(f"`{url[:200]}` is not https")
        is_tls = parts.scheme == "https"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(
            host=host, port=port or (443 if is_tls else 80), target=target, is_tls=is_tls,
            reach=reach,
        )  # fmt: skip

    @property
    def place(self) -> tuple[str, int, bool]:
        """What a document that points to another may not change."""
        return self.host, self.port, self.is_tls

    async def get(self) -> bytes:
        """The document as it is now.

        Raises:
            Unavailable: it cannot be had, or its host is none that may be asked.
        """
        answer = await self._answer("GET", b"", "Accept: application/json\r\n")
        if answer.status != _OK:
            raise Unavailable(f"the answer has status {answer.status}; redirects are not followed")
        if answer.content_type not in _CONTENT_TYPES:
            raise Unavailable("the answer is not JSON by its content type")
        return answer.body

    async def post(self, text: bytes) -> Answer:
        """What is answered to a text, of whatever status.

        Raises:
            Unavailable: nobody answers, or the host is none that may be asked.
        """
        head = f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(text)}\r\n"
        return await self._answer("POST", text, head)

    async def _answer(self, method: str, body: bytes, head: str) -> Answer:
        try:
            async with asyncio.timeout(SECONDS_MAX):
                return _parsed(await self._ask(await self._addresses(), method, body, head))
        except TimeoutError as cause:
            raise Unavailable(f"`{self.host}` did not answer in time") from cause
        except (OSError, HTTPException, UnicodeError, ValueError) as cause:
            raise Unavailable(f"`{self.host}` cannot be asked: {cause}") from cause

    async def _addresses(self) -> Sequence[str]:
        """Every address of the host; all must be permitted, else none is asked."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not addresses or not all(self._is_permitted(address) for address in addresses):
            raise Unavailable(
                f"`{self.host}` has an address that may not be asked",
                advice="see `networks` and `loopback` in docs/operate/identity-providers.md",
            )
        return addresses

    def _is_permitted(self, text: str) -> bool:
        address = ip_address(text)
        if address.is_loopback:
            return self.reach.loopback
        if not self.is_tls:
            return False
        if any(address in network for network in self.reach.networks):
            return True
        if isinstance(address, IPv6Address) and (
            address.ipv4_mapped or address.sixtofour or address.teredo
            or any(address in network for network in _TRANSLATED)
        ):  # fmt: skip
            return False
        return address.is_global and not address.is_multicast and address not in _METADATA

    async def _ask(self, addresses: Sequence[str], method: str, body: bytes, more: str) -> bytes:
        reader, writer = await self._connected(addresses)
        shown = f"[{self.host}]" if ":" in self.host else self.host
        head = (
            f"{method} {self.target} HTTP/1.1\r\nHost: {shown}:{self.port}\r\n{more}"
            "Accept-Encoding: identity\r\nConnection: close\r\n\r\n"
        )
        try:
            writer.write(head.encode("ascii") + body)
            await writer.drain()
            return await _all_of(reader)
        finally:
            writer.transport.abort()  # no farewell is waited for

    async def _connected(
        self, addresses: Sequence[str]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        tls: dict[str, Any] = {}
        if self.is_tls:
            context = await asyncio.to_thread(
                ssl.create_default_context, cafile=self.reach.authority
            )
            tls = {"ssl": context, "server_hostname": self.host}
        *others, last = addresses
        for address in others:
            try:
                return await asyncio.open_connection(address, self.port, **tls)
            except ssl.SSLError:
                raise
            except OSError:
                continue
        return await asyncio.open_connection(last, self.port, **tls)


def _split(url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as cause:
        raise InvalidInput(f"`{url[:200]}` is not a URL") from cause
    if len(url) > _URL_CHARS_MAX or not all("!" <= char <= "~" for char in url):
        raise InvalidInput("the URL of a document is ASCII without blanks")
    return parts, port


async def _all_of(reader: asyncio.StreamReader) -> bytes:
    data = bytearray()
    while chunk := await reader.read(64 << 10):
        data += chunk
        if len(data) > _HEAD_BYTES_MAX + BODY_BYTES_MAX:
            raise Unavailable("the answer is too long")
    return bytes(data)


class _Heard:
    """What `HTTPResponse` takes for a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _parsed(answer: bytes) -> Answer:
    response = HTTPResponse(_Heard(answer))  # type: ignore[arg-type]
    response.begin()
    said = response.getheader("Content-Type", "").partition(";")[0].strip().lower()
    return Answer(status=response.status, content_type=said, body=response.read())
