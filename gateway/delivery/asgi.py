"""The data app: segments of leases over HTTP, as a pure ASGI callable.

Step numbers are those of docs/formats/segment-v1.md §5; (4) to (8) are in producer.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.crypto.segments import RequestLine, check_request
from gateway.delivery.guard import Cycle, GuardedProtocol
from gateway.delivery.leases import LeaseTable, OpenLease
from gateway.delivery.places import Places
from gateway.delivery.producer import Producer
from gateway.delivery.responses import Send, Stream, answer, refuse
from gateway.delivery.whole import ArrowStream
from gateway.errors import GatewayError, InvalidInput, NotAuthenticated, NotFound

MAC_HEADER = b"gateway-mac"
_SEGMENT = re.compile(r"/v1/leases/([a-z0-9_]{1,64})/segments/(0|[1-9][0-9]{0,9})\Z")
_STREAM = re.compile(r"/v1/leases/([a-z0-9_]{1,64})/stream\Z")
_TICKET = re.compile(r"ticket=([A-Za-z0-9_-]{43})\Z")
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
    cycle: Cycle

    @classmethod
    def of(cls, scope: dict[str, Any]) -> Request:
        """Read the scope."""
        reached = scope["extensions"]["gateway.connection"]
        return cls(
            method=scope["method"],
            path=scope["raw_path"].decode("ascii", "replace"),
            query=scope["query_string"].decode("ascii", "replace"),
            headers=dict(scope["headers"]),
            connection=reached["protocol"],
            cycle=reached["cycle"],
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
        self, table: LeaseTable, producer: Producer, places: Places, now: Callable[[], float]
    ) -> None:
        """Serve the leases of `table` to who has a place; `now` gives Unix seconds."""
        self._table, self._producer, self._places, self._now = table, producer, places, now
        self._buffers: list[bytearray] = []  # as many as there were streams at once

    async def __call__(self, scope: dict[str, Any], _receive: object, send: Send) -> None:
        """Answer one request."""
        request = Request.of(scope)
        try:
            segment = _SEGMENT.match(request.path)
            acknowledgements = _ACKNOWLEDGEMENTS.match(request.path)
            whole = _STREAM.match(request.path)
            if segment and request.method == "GET":
                await self._segment(request, segment[1], int(segment[2]), send)
            elif acknowledgements and request.method == "POST":
                await self._acknowledge(request, acknowledgements[1], send)
            elif whole and request.method == "GET":
                await self._whole(request, whole[1], send)
            else:
                raise NotFound("the data port serves segments of leases")
        except GatewayError as error:
            await refuse(send, error)

    def drop_buffers(self, keep: int) -> None:
        """Keep at most so many of the buffers that no stream uses."""
        del self._buffers[keep:]

    async def _segment(self, request: Request, name: str, number: int, send: Send) -> None:
        lease = self._authenticate(request, name)  # (1)
        start = _start_of(request.header(b"range"))  # (2)
        self._take_acknowledgement(lease, request.query)  # (3)
        with self._table.flight.begun():
            stream = Stream(request.connection, request.cycle, send, start, self._buffers)
            await self._producer.deliver(lease, number, stream)

    async def _whole(self, request: Request, name: str, send: Send) -> None:
        ticket = _TICKET.match(request.query)
        if ticket is None:
            raise NotAuthenticated("this address has no ticket")
        lease = self._table.get(name)
        self._places.require(request.connection, lease)  # before the ticket is used up
        with self._table.flight.begun():
            lease.use_ticket(ticket[1], self._now())
            self._places.take(request.connection, lease)
            out = ArrowStream(request.connection, request.cycle, send, lease.spec, self._buffers)
            await out.deliver(self._producer, lease)

    def _authenticate(self, request: Request, name: str) -> OpenLease:
        held = self._table.credentials(name)
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
        lease = self._table.get(name)
        self._places.take(request.connection, lease)
        return lease

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
        lease.acknowledge(int(match[1]), int(match[2]))  # (3)


def _start_of(header: str) -> int:
    if not header:
        return 0
    match = _RANGE.match(header)
    if match is None:
        raise InvalidInput("a range of a segment is `bytes=START-`")
    return int(match[1])
