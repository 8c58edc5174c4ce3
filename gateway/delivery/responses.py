"""What goes back over ASGI: one stream of a segment, small answers, problem documents."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.delivery.body import keyed_seal
from gateway.delivery.guard import Cycle, GuardedProtocol
from gateway.domain.lease import CHUNK_BYTES_MAX
from gateway.errors import GatewayError, InvalidInput, Unavailable
from gateway.wire.problems import PROBLEM_TYPE, problem

UNHEARD_BYTES_MAX = 4 * CHUNK_BYTES_MAX
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


class Stream:
    """One response with a segment, from byte `start` of it on; an Outlet of producer.py."""

    media_type = b"application/octet-stream"

    def __init__(
        self,
        connection: GuardedProtocol,
        cycle: Cycle,
        send: Send,
        start: int,
        buffers: list[bytearray],
    ) -> None:
        """Nothing is sent yet; `buffers` are those that no stream uses now."""
        self.connection, self._cycle = connection, cycle
        self._send, self._buffers = send, buffers
        self._start = self._skip = start
        self._length = 0
        self._unheard = 0  # bytes written since the loop could hear of other things
        self._buffer = buffers.pop() if buffers else bytearray(CHUNK_BYTES_MAX)

    @property
    def is_open(self) -> bool:
        """Whether the client is still there."""
        return self.connection.is_open

    has_room = True  # what was written before, the kernel has

    async def room(self) -> None:
        """There always is."""

    def place(self) -> memoryview:
        """Return the one buffer of this stream; warm memory is worth half the time."""
        return memoryview(self._buffer)

    seal = staticmethod(keyed_seal)

    def expect(self, length: Callable[[], int]) -> None:
        """Keep the length for the head; InvalidInput when nothing is left from `start` on."""
        self._length = length()
        if self._start >= self._length:
            raise InvalidInput(f"the segment has {self._length} bytes")

    async def begin(self) -> None:
        """Send the head of the response."""
        length = self._length
        headers = [
            (b"content-type", self.media_type),
            (b"content-length", str(length - self._start).encode()),
            (b"accept-ranges", b"bytes"),
            (b"cache-control", b"no-store"),
        ]
        if self._start:
            span = f"bytes {self._start}-{length - 1}/{length}"
            headers.append((b"content-range", span.encode()))
        self.connection.write_through()
        status = 206 if self._start else 200
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    def write(self, frame: bytes | memoryview) -> Awaitable[None] | None:
        """Hand bytes to the kernel; what to await until it has all of them, if it has not."""
        self._hand_on(frame)
        return self._settled()

    def _hand_on(self, frame: bytes | memoryview) -> None:
        if self._skip >= len(frame):
            self._skip -= len(frame)
            return
        self.connection.write_body(self._cycle, frame[self._skip :] if self._skip else frame)
        self._unheard += len(frame)
        self._skip = 0

    def _settled(self) -> Awaitable[None] | None:
        if self.connection.is_handed_over and self._unheard < UNHEARD_BYTES_MAX:
            return None
        return self._yield()

    async def _yield(self) -> None:
        self._unheard = 0
        await self.connection.handed_over()
        await asyncio.sleep(0)  # let the loop notice that a client left

    async def end(self) -> None:
        """Finish; raises Unavailable when the client left before it had everything."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        await self.connection.handed_over()
        if not self.is_open:
            raise Unavailable("the client left")
        self._buffers.append(self._buffer)  # the kernel has a copy of all of it

    async def abort(self) -> None:
        """Drop the connection and what the kernel does not have yet."""
        self.connection.abort()
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
    headers = [(b"content-type", PROBLEM_TYPE.encode())]
    seconds = error.facts.get("retry_after_seconds")
    if seconds is not None:
        headers.append((b"retry-after", str(int(seconds)).encode()))
    await answer(send, status, body, headers)
