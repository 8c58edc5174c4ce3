"""The data app: segments of leases over HTTP, as a pure ASGI callable.

Step numbers are those of docs/formats/segment-v0.md §5. No byte of a segment is decrypted
before its intent is durable, and none is handed on before the gate admitted its chunk.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.crypto.segments import RequestLine, check_request
from gateway.delivery.control import ControlLink
from gateway.delivery.gate import Gate
from gateway.delivery.guard import GuardedProtocol
from gateway.delivery.leases import LeaseTable, OpenLease
from gateway.delivery.responses import Send, Stream, answer, refuse
from gateway.domain.lease import CHUNK_BYTES_MAX
from gateway.domain.order import Segment
from gateway.errors import GatewayError, IntegrityError, InvalidInput, NotFound

MAC_HEADER = b"gateway-mac"
STALL_SECONDS = 30.0
_SEGMENT = re.compile(r"/v1/leases/([a-z0-9_]{1,64})/segments/(0|[1-9][0-9]{0,9})\Z")
_ACKNOWLEDGEMENTS = re.compile(r"/v1/leases/([a-z0-9_]{1,64})/acknowledgements\Z")
_RECEIVED = re.compile(r"received=(0|[1-9][0-9]{0,14})&rows=(0|[1-9][0-9]{0,14})\Z")
_RANGE = re.compile(r"bytes=(0|[1-9][0-9]{0,15})-\Z")


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request as the app sees it."""

    method: str
    path: str
    query: str
    headers: dict[bytes, bytes]
    connection: GuardedProtocol

    @classmethod
    def of(cls, scope: dict[str, Any]) -> Request:
        """Read the scope."""
        return cls(
            method=scope["method"],
            path=scope["raw_path"].decode("ascii", "replace"),
            query=scope["query_string"].decode("ascii", "replace"),
            headers=dict(scope["headers"]),
            connection=scope["extensions"]["gateway.connection"]["protocol"],
        )

    @property
    def target(self) -> str:
        """Path and query as sent."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def header(self, name: bytes) -> str:
        """Return a header's value; empty when absent."""
        return self.headers.get(name, b"").decode("latin-1")


class DataApp:
    """ASGI callable of a data worker."""

    def __init__(
        self,
        table: LeaseTable,
        gate: Gate,
        control: ControlLink,
        *,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        """Serve the leases of `table`; a client may stall `stall_seconds` per chunk."""
        self._table, self._gate, self._control = table, gate, control
        self._stall_seconds = stall_seconds
        self._buffers: list[bytearray] = []  # as many as there were streams at once

    async def __call__(self, scope: dict[str, Any], _receive: object, send: Send) -> None:
        """Answer one request."""
        request = Request.of(scope)
        try:
            segment = _SEGMENT.match(request.path)
            acknowledgements = _ACKNOWLEDGEMENTS.match(request.path)
            if segment and request.method == "GET":
                await self._segment(request, segment[1], int(segment[2]), send)
            elif acknowledgements and request.method == "POST":
                await self._acknowledge(request, acknowledgements[1], send)
            else:
                raise NotFound("the data port serves segments of leases")
        except GatewayError as error:
            await refuse(send, error)

    async def _segment(self, request: Request, name: str, number: int, send: Send) -> None:
        lease = self._authenticate(request, name)  # (1)
        segment = lease.segment(number)
        if number in lease.refused:  # found in the middle of a body: this is the typed answer
            raise IntegrityError("the stored bytes of this segment are not authentic")
        start = _start_of(request.header(b"range"))  # (2)
        self._take_acknowledgement(lease, request.query)  # (3)
        await self._gate.admit(lease)  # (4)
        receipt = await self._gate.record(lease, segment)  # (5)
        await self._gate.admit(lease)
        body = lease.body(segment)
        length = body.length(receipt)
        if start >= length:
            raise InvalidInput(f"the segment has {length} bytes")
        buffer = self._buffers.pop() if self._buffers else bytearray(CHUNK_BYTES_MAX)
        frames = self._opened(lease, segment, body.frames(receipt, buffer))
        first = [next(frames), next(frames)]  # (6): a bad first chunk is a typed answer
        stream = Stream(lease, request.connection, send, start)
        try:
            await stream.begin(length)
            for frame in first:
                await self._write(lease, stream, frame)
            while stream.is_open:
                await self._gate.admit(lease)  # (7)
                following = next(frames, None)
                if following is None:
                    await stream.end()
                    self._table.segments += 1
                    self._buffers.append(buffer)  # the kernel has a copy of all of it
                    self._gate.sent(lease, segment)  # (8)
                    return
                await self._write(lease, stream, following)
        except (GatewayError, TimeoutError):
            # Too late for a typed answer: the client sees a cut body, asks again, gets the reason.
            await stream.abort()
        finally:
            lease.streams.discard(request.connection)

    async def _write(self, lease: OpenLease, stream: Stream, frame: bytes | memoryview) -> None:
        if lease.stopped is not None:
            raise lease.stopped
        async with asyncio.timeout(self._stall_seconds):
            await stream.write(frame)

    def _authenticate(self, request: Request, name: str) -> OpenLease:
        closed = self._table.closed(name)
        held = closed or self._table.get(name).credentials
        line = RequestLine(
            lease=name,
            method=request.method,
            path=request.target,
            range=request.header(b"range"),
            boot=held.boot,
        )
        counter = check_request(held.key, line, request.header(MAC_HEADER))
        held.counters.accept(counter)
        if held.reason is not None:
            raise held.reason
        return self._table.get(name)

    def _opened(
        self, lease: OpenLease, segment: Segment, frames: Iterator[bytes | memoryview]
    ) -> Iterator[bytes | memoryview]:
        try:
            for frame in frames:
                self._table.frames += 1
                self._table.bytes += len(frame)
                yield frame
        except IntegrityError as error:
            self._report(lease, segment, error)
            raise

    def _report(self, lease: OpenLease, segment: Segment, error: IntegrityError) -> None:
        lease.refused.add(segment.number)
        self._control.refused(lease.spec.lease, segment.number, error.code)

    async def _acknowledge(self, request: Request, name: str, send: Send) -> None:
        lease = self._authenticate(request, name)
        self._take_acknowledgement(lease, request.query)
        await answer(send, 204, b"", [])

    def _take_acknowledgement(self, lease: OpenLease, query: str) -> None:
        if not query:
            return
        match = _RECEIVED.match(query)
        if match is None:
            raise InvalidInput("the query is `received=SEGMENTS&rows=ROWS`")
        segments, rows = int(match[1]), int(match[2])
        if segments > lease.acknowledged[0] and rows >= lease.acknowledged[1]:
            lease.acknowledged = (segments, rows)
            self._control.acknowledge(lease.spec.lease, segments, rows)


def _start_of(header: str) -> int:
    if not header:
        return 0
    match = _RANGE.match(header)
    if match is None:
        raise InvalidInput("a range of a segment is `bytes=START-`")
    return int(match[1])
