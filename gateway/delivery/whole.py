"""A whole lease as one Arrow IPC stream, for readers that know nothing of us (segment-v1.md §6).

The frames of a view are Arrow messages already: their schema comes before them, the end mark
after them, and what belongs to segments only (heads, padding, seals, ends) is left out. Each
segment passes the same producer as any other: gate, intent, confirmation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gateway.delivery.geometry import view_geometry
from gateway.delivery.guard import Cycle, GuardedProtocol
from gateway.delivery.leases import OpenLease
from gateway.delivery.producer import Producer
from gateway.delivery.responses import Send, Stream
from gateway.delivery.spec import LeaseSpec, ViewSource
from gateway.errors import Conflict, GatewayError
from gateway.wire.segments import PREFIX, SegmentHead, read_json

MEDIA_TYPE = b"application/vnd.apache.arrow.stream"
NOT_WHOLE = 'open a lease with `"as_arrow": true` to read it whole'
END = b"\xff\xff\xff\xff\0\0\0\0"  # Arrow IPC: end of stream


class ArrowStream(Stream):
    """The response for all segments; an Outlet that drops what Arrow does not know."""

    media_type = MEDIA_TYPE

    def __init__(
        self,
        connection: GuardedProtocol,
        cycle: Cycle,
        send: Send,
        spec: LeaseSpec,
        buffers: list[bytearray],
    ) -> None:
        """Nothing is sent yet; the length is exact, so that a reader sees what is missing.

        Raises:
            Conflict: the lease was not opened to be read so.
        """
        source = spec.source
        if not isinstance(source, ViewSource):
            raise Conflict("this lease is read by segments", advice=NOT_WHOLE)
        super().__init__(connection, cycle, send, 0, buffers)
        _, sizes = view_geometry(source)
        self._schema = source.schema
        self._length = len(source.schema) + sum(sizes) + len(END)
        self._head: SegmentHead | None = None
        self._at = 0  # in the body of the segment
        self._has_begun = False

    def expect(self, length: Callable[[], int]) -> None:
        """The length of a segment is no matter here."""

    async def begin(self) -> None:
        """Before the first segment: the head of the response, and the schema."""
        self._head, self._at = None, 0
        if not self._has_begun:
            self._has_begun = True
            await super().begin()
            self._hand_on(self._schema)

    def write(self, frame: bytes | memoryview) -> Awaitable[None] | None:
        """Hand on what of a frame is in an Arrow message."""
        if self._head is None:
            self._head = SegmentHead.from_json(read_json(frame[PREFIX.size :]))
            return None
        begin, self._at = self._at, self._at + len(frame)
        for offset, size in self._head.parts:
            start, stop = max(offset, begin), min(offset + size, self._at)
            if start < stop and begin < self._head.bytes:
                self._hand_on(frame[start - begin : stop - begin])
        return self._settled()

    async def end(self) -> None:
        """A segment is over; the stream goes on."""

    async def deliver(self, producer: Producer, lease: OpenLease) -> None:
        """Send every segment, in order; once it has begun, whatever stops it cuts the stream.

        Raises:
            GatewayError: before the first byte: why there is none.
        """
        for segment in lease.segments:
            try:
                await producer.deliver(lease, segment.number, self)
            except GatewayError:
                if not self._has_begun:
                    raise
                await self.abort()
            if not self.is_open:
                return
        await self._finish()

    async def _finish(self) -> None:
        try:
            await self.begin()  # a stream without rows has a schema, too
            self._hand_on(END)
            await super().end()
        except GatewayError:
            await self.abort()
