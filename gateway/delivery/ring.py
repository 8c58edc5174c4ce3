"""Segments over a ring of sealed memory, for clients of this host (docs/formats/ring-v1.md).

The thin end beside HTTP: chunks are opened in the slots of the ring, and the socket says which
slot holds what. One connection serves one lease, one segment after the other. A slot is the
client's from the word that it is filled until its credit: nothing changes it meanwhile. When
the connection ends, for whatever reason, all others are zeroed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast

from gateway.crypto.ring import Handshake
from gateway.crypto.segments import FrameMac
from gateway.delivery.leases import LeaseTable, OpenLease
from gateway.delivery.producer import Producer
from gateway.delivery.ring_memory import RingMemory
from gateway.domain.lease import CHUNK_BYTES_MAX
from gateway.errors import (
    GatewayError,
    IntegrityError,
    NotAuthenticated,
    Unavailable,
)
from gateway.wire import ring as frames
from gateway.wire.problems import problem
from gateway.wire.segments import PREFIX

HELLO_SECONDS_MAX = 5.0
CONNECTIONS_MAX = 256
RINGS_MAX = 128  # of 8 MiB each, per worker
RINGS_OF_A_LEASE_MAX = 4
WANTED_MAX = 4  # segments a client may ask for ahead
TOLD_AT_ONCE = 4  # each word wakes the client
_CHUNK_FRAME_BYTES = PREFIX.size + frames.CHUNK_PLACE.size
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class RingServer:
    """The ring connections of one worker."""

    def __init__(
        self, table: LeaseTable, producer: Producer, hello_seconds: float = HELLO_SECONDS_MAX
    ) -> None:
        """Serve the leases of `table`; a client has `hello_seconds` to prove itself."""
        self.table, self.producer, self.hello_seconds = table, producer, hello_seconds
        self.connections: set[RingConnection] = set()

    async def serve(self, listening: socket.socket) -> None:
        """Accept on the Unix socket until cancelled."""
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: RingConnection(self), sock=listening)
        async with server:
            await server.serve_forever()

    def memory(self, lease: OpenLease) -> RingMemory:
        """Make the memory of one more ring of a lease; Unavailable when there are too many."""
        count = sum(connection.has_ring for connection in self.connections)
        if count >= RINGS_MAX or len(lease.rings) >= RINGS_OF_A_LEASE_MAX:
            raise Unavailable("this worker has no memory for another ring")
        return RingMemory()


class RingConnection(asyncio.Protocol):
    """One client on the Unix socket: proves itself, then asks for segments."""

    def __init__(self, server: RingServer) -> None:
        """Wait for the transport."""
        self._server = server
        self._incoming = frames.Incoming(frames.FROM_CLIENT)
        self._challenge = os.urandom(frames.NONCE_BYTES)
        self._wanted: asyncio.Queue[int] = asyncio.Queue(WANTED_MAX)
        self._free: deque[int] = deque(range(frames.SLOTS))
        self._handed: set[int] = set()
        self._is_idle = True  # no segment is wanted
        self._untold = bytearray()  # frames of slots that are handed out, not yet sent
        self._untold_slots: set[int] = set()
        self._has_room, self._is_drained = asyncio.Event(), asyncio.Event()
        self._has_room.set()
        self._is_drained.set()
        self._lease: OpenLease | None = None
        self._memory: RingMemory | None = None
        self._work: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport
        self._deadline: asyncio.TimerHandle | None = None

    # -- the connection -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Refuse other accounts; send the challenge."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=0)
        connections = self._server.connections
        connections.add(self)
        if len(connections) > CONNECTIONS_MAX:
            self._refuse(Unavailable("too many clients are connected"))
        elif self._peer() != os.geteuid():
            self._refuse(NotAuthenticated("the ring serves the account that runs the gateway"))
        else:
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(self._server.hello_seconds, self.abort)
            self._transport.write(frames.frame(frames.CHALLENGE, self._challenge))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the reason is nobody's
        """The client is gone, and with it the last look at the slots it had."""
        self._release()
        self._server.connections.discard(self)
        if self._work is not None:
            self._work.cancel()

    def data_received(self, data: bytes) -> None:
        """Take frames; a client that sends nonsense is cut."""
        try:
            self._incoming.feed(data)
            while not self._transport.is_closing():
                frame = self._incoming.next()
                if frame is None:
                    return
                self._take(*frame)
        except GatewayError as error:
            self._refuse(error)

    def pause_writing(self) -> None:
        """The kernel does not have all of it yet."""
        self._is_drained.clear()

    def resume_writing(self) -> None:
        """The kernel has everything."""
        self._is_drained.set()

    def abort(self) -> None:
        """Zero every slot that the client does not have, drop the connection; harmless twice."""
        self._release()
        self._transport.abort()

    @property
    def is_open(self) -> bool:
        """Whether slots can still reach the client."""
        return self._memory is not None and not self._transport.is_closing()

    @property
    def has_ring(self) -> bool:
        """Whether it holds memory."""
        return self._memory is not None

    def _peer(self) -> int:
        sock = self._transport.get_extra_info("socket")
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return int(_CREDENTIALS.unpack(raw)[1])

    def _refuse(self, error: GatewayError) -> None:
        self._send_refusal(error)
        self._release()
        self._transport.close()

    def _send_refusal(self, error: GatewayError) -> None:
        self._transport.write(frames.frame(frames.REFUSAL, problem(error)[1]))

    def _release(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._memory is not None:
            self._memory.zero_all_but(self._handed - self._untold_slots)
            self._memory = None  # unmapped when its last slot is let go of
        if self._lease is not None:
            self._lease.rings.discard(self)
        self._has_room.set()
        self._is_drained.set()

    # -- what the client says -----------------------------------------------------------

    def _take(self, magic: bytes, payload: bytes) -> None:
        if (magic == frames.HELLO) is not (self._lease is None):
            raise NotAuthenticated("a ring begins with one hello")
        if magic == frames.HELLO:
            self._greet(frames.read_greeting(frames.Hello, payload))
        elif magic == frames.CREDIT:
            self._take_back(*frames.RETURNED.unpack(payload))
        elif magic == frames.ACKNOWLEDGE:
            self._acknowledge(*frames.RECEIVED.unpack(payload))
        else:
            number, segments, rows = frames.WANTED.unpack(payload)
            self._acknowledge(segments, rows)
            try:
                self._wanted.put_nowait(number)
            except asyncio.QueueFull:
                raise IntegrityError("too many segments are asked for at once") from None
            if self._lease is not None:
                self._server.producer.prepare(self._lease, number)

    def _greet(self, hello: frames.Hello) -> None:
        """(1) of segment-v1 §5, once for the connection."""
        held = self._server.table.credentials(hello.lease)
        shake = Handshake(
            key=held.key,
            lease=hello.lease,
            boot=held.boot,
            challenge=self._challenge,
            nonce=_nonce(hello.nonce),
        )
        shake.check_hello(hello.mac)
        if held.reason is not None:
            raise held.reason
        lease = self._server.table.get(hello.lease)
        memory = self._server.memory(lease)
        welcome = frames.Welcome(
            v=frames.RING_FORMAT,
            slots=frames.SLOTS,
            slot_bytes=CHUNK_BYTES_MAX,
            memory=memory.name,
            mac=shake.welcome(frames.SLOTS, CHUNK_BYTES_MAX, memory.name),
        )
        self._lease, self._memory = lease, memory
        self._share(welcome, memory)
        if self._deadline is not None:
            self._deadline.cancel()
        lease.rings.add(self)
        self._work = asyncio.create_task(self._serve(lease))
        self._work.add_done_callback(self._done)

    def _share(self, welcome: frames.Welcome, memory: RingMemory) -> None:
        """Send the descriptor beside the transport: what it sent before, the client has read."""
        ours = self._transport.get_extra_info("socket")
        with socket.socket(fileno=os.dup(ours.fileno())) as sock:
            try:
                socket.send_fds(sock, [frames.greeting(welcome)], [memory.descriptor])
            except OSError as cause:
                raise Unavailable("the client takes no descriptor") from cause
            finally:
                memory.close_descriptor()

    def _take_back(self, slot: int) -> None:
        if slot not in self._handed or self._memory is None:
            raise IntegrityError("a slot was given back that was not handed out")
        self._handed.remove(slot)
        self._free.append(slot)
        if self._is_idle:
            self._memory.zero(slot)
        self._has_room.set()

    def _acknowledge(self, segments: int, rows: int) -> None:
        if self._lease is not None:
            self._lease.acknowledge(segments, rows)
            self._has_room.set()  # it lives: who waits for room waits anew

    # -- segments -----------------------------------------------------------------------

    async def _serve(self, lease: OpenLease) -> None:
        while True:
            if self._wanted.empty():
                self._zero_free()  # not in between: the next chunk overwrites the slot
                self._is_idle = True
            number = await self._wanted.get()
            self._is_idle = False
            try:
                with self._server.table.flight.begun():
                    await self._server.producer.deliver(lease, number, _Outlet(self))
            except TimeoutError:
                self.abort()
            except GatewayError as error:
                self._zero_free()
                self._send_refusal(error)

    def _done(self, work: asyncio.Task[None]) -> None:
        self._work = None  # it holds frames that hold slots: the memory goes now, not at a GC
        self.abort()
        if not work.cancelled():
            work.result()  # a fault of ours: the loop reports it

    def _zero_free(self) -> None:
        if self._memory is not None:
            for slot in self._free:
                self._memory.zero(slot)

    @property
    def has_room(self) -> bool:
        """Whether a slot is free."""
        return bool(self._free)

    async def room(self) -> None:
        """Wait until a slot is free or the client says that it lives; Unavailable if it left."""
        if not self._free and self.is_open:
            self._has_room.clear()
            await self._has_room.wait()
        self._require_open()

    @property
    def next_slot(self) -> int:
        """The slot that is filled."""
        return self._free[0]

    def place(self) -> memoryview:
        """The next free slot."""
        return self._require_open().slot(self.next_slot)

    def _require_open(self) -> RingMemory:
        if self._memory is None or self._transport.is_closing():
            raise Unavailable("the client left")
        return self._memory

    def write(self, frame: bytes | memoryview) -> Awaitable[None] | None:
        """Hand over the slot that `place` gave last, or a frame of few bytes."""
        self._require_open()
        if isinstance(frame, memoryview):
            slot = self._free.popleft()
            self._handed.add(slot)
            self._untold_slots.add(slot)
            self._untold += frames.frame(frames.CHUNK, frames.CHUNK_PLACE.pack(slot, len(frame)))
            if self._free and len(self._untold) < TOLD_AT_ONCE * _CHUNK_FRAME_BYTES:
                return None
        else:
            self._untold += frame
        self._transport.write(bytes(self._untold))
        self._untold.clear()
        self._untold_slots.clear()
        return None if self._is_drained.is_set() else self.handed_over()

    async def handed_over(self) -> None:
        """Wait until the kernel has everything written so far; Unavailable without a client."""
        if not self._is_drained.is_set():
            await self._is_drained.wait()
        self._require_open()


class _Outlet:
    """One segment over one ring; an Outlet of producer.py."""

    def __init__(self, connection: RingConnection) -> None:
        self.connection = connection
        self.room, self.place, self.write = connection.room, connection.place, connection.write
        self.end = connection.handed_over

    @property
    def is_open(self) -> bool:
        return self.connection.is_open

    @property
    def has_room(self) -> bool:
        return self.connection.has_room

    def seal(self, mac: FrameMac, chunk: memoryview, position: int) -> bytes:  # noqa: ARG002 - Outlet
        return bytes((self.connection.next_slot,))

    def expect(self, length: Callable[[], int]) -> None:
        """No length is told ahead."""

    async def begin(self) -> None:
        """The head frame is the beginning."""

    async def abort(self) -> None:
        self.connection.abort()


def _nonce(text: str) -> bytes:
    with contextlib.suppress(ValueError):
        nonce = bytes.fromhex(text)
        if len(nonce) == frames.NONCE_BYTES and nonce.hex() == text:
            return nonce
    raise NotAuthenticated("the hello on the ring carries no nonce")
