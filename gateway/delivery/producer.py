"""How a segment is produced, the same for every delivery (segment-v1.md §5, steps 3 to 8).

No byte of a segment is decrypted before its intent is durable, and none is handed on before
the gate admitted its chunk. A delivery is an Outlet: where chunks are opened, and how frames
reach the client.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Generator, Iterator
from functools import partial
from typing import Protocol

from gateway.crypto.segments import FrameMac
from gateway.delivery.control import ControlLink
from gateway.delivery.gate import Gate
from gateway.delivery.leases import Connection, LeaseTable, OpenLease
from gateway.domain.order import Segment
from gateway.errors import GatewayError, IntegrityError

STALL_SECONDS = 30.0


class Outlet(Protocol):
    """One end of a delivery, for one segment."""

    @property
    def connection(self) -> Connection:
        """What the lease aborts to stop it."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether the client is still there."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether there is memory for the next chunk."""
        ...

    async def room(self) -> None:
        """Wait for memory for the next chunk; raises when there never will be any.

        May return without it when the client has shown that it lives: the wait begins anew.
        """
        ...

    def place(self) -> memoryview:
        """Return that memory, of CHUNK_BYTES_MAX bytes."""
        ...

    def seal(self, mac: FrameMac, chunk: memoryview, position: int) -> bytes:
        """Return what proves a chunk in the end frame."""
        ...

    def expect(self, length: Callable[[], int]) -> None:
        """May ask how many bytes all frames have under `keyed_seal`; InvalidInput refuses them."""
        ...

    async def begin(self) -> None:
        """Start the answer."""
        ...

    def write(self, frame: bytes | memoryview) -> Awaitable[None] | None:
        """Take one frame; return what to await before the next, None if nothing.

        Few waits are half of the speed: each gives the loop to others, and wakes the client.
        """
        ...

    async def end(self) -> None:
        """Finish; raises Unavailable when the client left before it had everything."""
        ...

    async def abort(self) -> None:
        """Drop the connection and what the client was not handed yet."""
        ...


class Producer:
    """Produces segments of the leases of one worker."""

    def __init__(
        self, table: LeaseTable, gate: Gate, control: ControlLink, stall_seconds: float
    ) -> None:
        """Let a client stall `stall_seconds` per chunk."""
        self._table, self._gate, self._control = table, gate, control
        self._stall_seconds = stall_seconds

    def prepare(self, lease: OpenLease, number: int) -> None:
        """(5) may begin: the client has asked for this segment, and another is on its way."""
        self._gate.prepare(lease, number)

    async def deliver(self, lease: OpenLease, number: int, out: Outlet) -> None:
        """Send one segment, or raise before its first byte why not.

        Once it has begun, whatever stops it cuts the connection: the client asks again and
        gets the reason.
        """
        segment = lease.segment(number)
        if number in lease.refused:  # found in the middle of a body: this is the typed answer
            raise IntegrityError("the stored bytes of this segment are not authentic")
        await self._gate.admit(lease)  # (4)
        receipt = await self._gate.record(lease, segment)  # (5)
        await self._room(out)
        await self._gate.admit(lease)
        lease.begin(segment)
        body = lease.body(segment)
        out.expect(partial(body.length, receipt))
        frames = self._opened(lease, segment, body.frames(receipt, out.place, out.seal))
        first = [next(frames), next(frames)]  # (6): a bad first chunk is a typed answer
        lease.streams.add(out.connection)
        try:
            await out.begin()
            for frame in first:
                if lease.stopped is not None:
                    raise lease.stopped
                await self._write(out, frame)
            if await self._send(lease, out, frames):
                self._table.segments += 1
                self._gate.sent(lease, segment)  # (8)
        except (GatewayError, TimeoutError):
            await out.abort()
        finally:
            frames.close()
            lease.streams.discard(out.connection)

    async def _send(
        self, lease: OpenLease, out: Outlet, frames: Iterator[bytes | memoryview]
    ) -> bool:
        """Send the frames that are left; whether the client was there until the end."""
        while out.is_open:
            await self._room(out)
            if not self._gate.holds(lease):  # (7)
                await self._gate.admit(lease)
            following = next(frames, None)
            if following is None:
                await out.end()
                return True
            await self._write(out, following)  # no wait since the gate was asked
        return False

    async def _write(self, out: Outlet, frame: bytes | memoryview) -> None:
        waiting = out.write(frame)
        if waiting is not None:
            await self._in_time(waiting)

    async def _room(self, out: Outlet) -> None:
        while not out.has_room:
            await self._in_time(out.room())

    async def _in_time(self, waiting: Awaitable[None]) -> None:
        async with asyncio.timeout(self._stall_seconds):
            await waiting

    def _opened(
        self, lease: OpenLease, segment: Segment, frames: Generator[bytes | memoryview]
    ) -> Generator[bytes | memoryview]:
        try:
            with contextlib.closing(frames):  # with this one, whoever else holds it
                for frame in frames:
                    self._table.frames += 1
                    self._table.bytes += len(frame)
                    yield frame
        except IntegrityError as error:
            lease.refused.add(segment.number)
            self._control.refused(lease.spec.lease, segment.number, error.code)
            raise
