"""A uvicorn protocol class that refuses what uvicorn lets pass.

Without it a client that sends its head one byte at a time holds a connection for ever, two
`Host` headers are read as one, and a head may have any size. The limits are those of
docs/reference/limits.md; each refusal closes the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator
from http import HTTPStatus
from typing import ClassVar

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.errors import GatewayError, InvalidInput, TooLarge
from gateway.wire.problems import PROBLEM_TYPE, document_of

Cycle = RequestResponseCycle  # uvicorn's record of one request and its answer
HEAD_SECONDS_MAX = 5.0
HEAD_BYTES_MAX = 32 << 10
HEADERS_MAX = 100
_LIMITS = (
    f"the path and its headers have at most {HEAD_BYTES_MAX >> 10} KiB and {HEADERS_MAX} fields"
)
_TOO_LARGE = TooLarge("the head of the request is too large", advice=_LIMITS)
_TOO_SLOW = InvalidInput(
    f"the head of the request was not complete within {HEAD_SECONDS_MAX:.0f} s",
    advice="send it at once",
)
_NO_REQUEST = InvalidInput("this is not one HTTP request that names its host once", advice=_LIMITS)


class HeadRefused(Exception):
    """The head of a request is not acceptable."""


class GuardedProtocol(HttpToolsProtocol):
    """HttpToolsProtocol with a deadline and strict limits for the head of each request.

    It puts itself into `scope["extensions"]["gateway.connection"]["protocol"]`, so that the
    data app can wait until its bytes are with the kernel, or drop the connection at once; and
    beside it, as `cycle`, uvicorn's record of this request, for `write_body`.
    """

    head_seconds_max: ClassVar[float] = HEAD_SECONDS_MAX
    _deadline: asyncio.TimerHandle | None = None
    _in_head: bool = True
    _head_bytes: int = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: a connection that says nothing is closed too."""
        super().connection_made(transport)
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; refuse a head that grows beyond its limit before it is complete."""
        if self._in_head:
            self._start_clock()
            self._head_bytes += len(data)
        super().data_received(data)
        # The last read may also hold the start of a body: the exact sum is checked below.
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(431, _TOO_LARGE)

    def on_message_begin(self) -> None:
        """A head begins."""
        self._start_clock()
        super().on_message_begin()
        self.scope["extensions"] = {"gateway.connection": {"protocol": self}}

    def on_headers_complete(self) -> None:
        """A head is complete: check it whole, before any application sees it."""
        self._stop_clock()
        self._in_head = False
        self._check_head()
        super().on_headers_complete()
        # A request behind it replaces `self.cycle` while this one is still being answered.
        self.scope["extensions"]["gateway.connection"]["cycle"] = self.cycle

    def on_message_complete(self) -> None:
        """The request is whole; what follows is a new head."""
        super().on_message_complete()
        self._in_head, self._head_bytes = True, 0

    @property
    def is_open(self) -> bool:
        """Whether bytes can still reach the client."""
        return not self.transport.is_closing()

    def write_through(self) -> None:
        """From now on a write is over only when the kernel has all of it.

        Under TLS: all but what the transport below holds (at most 64 KiB). asyncio's TLS
        transport pauses at `size >= high`, so that 0 would pause it empty and for ever; the
        plain one pauses at `size > high`.
        """
        is_tls = self.transport.get_extra_info("sslcontext") is not None
        self.transport.set_write_buffer_limits(high=1 if is_tls else 0, low=0)

    def write_body(self, cycle: Cycle, part: bytes | memoryview) -> None:
        """Write a part of a body whose length was told: ASGI's `send`, without its coroutine.

        Whatever the kernel does not take at once is kept by the transport: `part` may change
        only after `handed_over`.
        """
        cycle.expected_content_length -= len(part)
        if not self.transport.is_closing():
            self.transport.write(part)

    @property
    def is_handed_over(self) -> bool:
        """Whether the kernel has every byte written so far."""
        return not self.flow.write_paused

    async def handed_over(self) -> None:
        """Wait until the kernel has every byte written so far (or the client is gone)."""
        await self.flow.drain()

    def abort(self) -> None:
        """Drop the connection and every byte that the kernel does not have yet."""
        self.transport.abort()

    def _check_head(self) -> None:
        names = [name for name, _ in self.headers]
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if len(names) > HEADERS_MAX or size > HEAD_BYTES_MAX:
            raise HeadRefused("too many header fields")
        if names.count(b"host") != 1:
            raise HeadRefused("a request names its host once")
        if names.count(b"authorization") > 1:
            raise HeadRefused("a request has at most one authorization")

    def _start_clock(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.head_seconds_max, self._too_late)

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        if self._in_head and not self.transport.is_closing():
            self._refuse(408, _TOO_SLOW)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words help nobody
        """Refuse what is no request, or has a head that `_check_head` refused."""
        self._refuse(400, _NO_REQUEST)

    def _refuse(self, status: int, error: GatewayError) -> None:
        """Say why, as every other refusal does (RFC 9457), and close."""
        if self.transport.is_closing():
            return
        body = json.dumps({**document_of(error), "status": status}).encode()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {PROBLEM_TYPE}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


class GuardedServer(uvicorn.Server):
    """uvicorn without its own signal handlers: who starts it decides when it stops."""

    def __init__(self, config: uvicorn.Config) -> None:
        """Not started yet; `listening` is set when it is."""
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them to others."""
        yield
