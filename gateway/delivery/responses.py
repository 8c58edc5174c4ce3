"""What goes back over ASGI: one stream of a segment, small answers, problem documents."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.delivery.guard import GuardedProtocol
from gateway.delivery.leases import OpenLease
from gateway.errors import GatewayError, Unavailable
from gateway.wire.problems import PROBLEM_TYPE, problem

Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


class Stream:
    """One response with a segment, from byte `start` of it on."""

    def __init__(
        self, lease: OpenLease, connection: GuardedProtocol, send: Send, start: int
    ) -> None:
        """Nothing is sent yet."""
        self._lease, self._connection, self._send = lease, connection, send
        self._start = start
        self._skip = start

    @property
    def is_open(self) -> bool:
        """Whether the client is still there."""
        return self._connection.is_open

    async def begin(self, length: int) -> None:
        """Send the status line; from now on the lease can drop this connection."""
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", str(length - self._start).encode()),
            (b"accept-ranges", b"bytes"),
            (b"cache-control", b"no-store"),
        ]
        if self._start:
            span = f"bytes {self._start}-{length - 1}/{length}"
            headers.append((b"content-range", span.encode()))
        self._connection.write_through()
        self._lease.streams.add(self._connection)
        status = 206 if self._start else 200
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, frame: bytes | memoryview) -> None:
        """Hand bytes to the kernel and return when it has all of them."""
        if self._skip >= len(frame):
            self._skip -= len(frame)
            return
        body = frame[self._skip :] if self._skip else frame
        self._skip = 0
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
        await self._connection.handed_over()
        await asyncio.sleep(0)  # let the loop notice that a client left

    async def end(self) -> None:
        """Finish; raises Unavailable when the client left before it had everything."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        await self._connection.handed_over()
        if not self.is_open:
            raise Unavailable("the client left")

    async def abort(self) -> None:
        """Drop the connection and what the kernel does not have yet."""
        self._connection.abort()
        await asyncio.sleep(0)  # the protocol hears of it before the application returns


async def answer(send: Send, status: int, body: bytes, headers: Headers) -> None:
    """Send a small whole response."""
    headers = [*headers, (b"content-length", str(len(body)).encode())]
    if status == 204:  # noqa: PLR2004
        headers = headers[:-1]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def refuse(send: Send, error: GatewayError) -> None:
    """Send the problem document of an error."""
    status, body = problem(error)
    await answer(send, status, body, [(b"content-type", PROBLEM_TYPE.encode())])
