"""Fetch segments of a lease from a ring of sealed memory (docs/formats/ring-v1.md).

For a gateway on this host. Rows in their stored order are used where they lie, while their
segment arrives: the consumer itself reads what the worker says. Else chunks are copied out of
their slots once, and nothing is used before the end frame.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import socket
import stat
import struct
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import numpy as np

from gateway.client.arriving import Arriving, Came
from gateway.client.assembly import Placing
from gateway.client.buffers import Buffers
from gateway.client.segments import Access, Cut, Received, Segment, read_end, read_head
from gateway.client.slots import Bytes, Slots
from gateway.crypto.ring import Handshake
from gateway.errors import GatewayError, IntegrityError, StreamStopped, Unavailable
from gateway.wire import codec
from gateway.wire import ring as frames
from gateway.wire.problems import error_of_problem
from gateway.wire.segments import END_MAGIC, HEAD_MAGIC, SegmentHead

TIMEOUT_SECONDS = 60.0
GREETING_SECONDS = 5.0
LIFE_SECONDS = 5.0  # without a word: then we say that we live
_TICK_SECONDS = 0.5
_RECEIVE_BYTES = 64 << 10
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
_NOTHING: Bytes = np.zeros(0, dtype=np.uint8)
_SEALS = 0x0002 | 0x0004 | 0x0010 | 0x0001  # shrink, grow, future write, seal (linux/fcntl.h)


_readers: weakref.WeakValueDictionary[int, RingReader] = weakref.WeakValueDictionary()


class NoRing(Exception):
    """There is no ring to be had here; the text says why."""


class RingReader:
    """One ring of one lease. Not for several threads at once."""

    def __init__(
        self,
        access: Access,
        buffers: Buffers,
        meanwhile: Callable[[], None],
        placing: Callable[[SegmentHead], Placing | None],
    ) -> None:
        """Nothing is opened yet.

        Args:
            access: the lease.
            buffers: for what is copied.
            meanwhile: called now and then during long waits.
            placing: where the rows of a segment go; None = side by side, as they come.
        """
        self._access, self._buffers = access, buffers
        self._meanwhile, self._placing = meanwhile, placing
        self._asked: deque[int] = deque()
        self._sock: socket.socket | None = None
        self._sending = threading.Lock()  # the consumer gives slots back
        self._slots = Slots(memoryview(b""), 0)
        self._incoming = frames.Incoming(frames.FROM_WORKER)
        self._received = Received()
        self._is_greeted = self.was_greeted = False
        self._spoke_at = 0.0
        _readers[id(self)] = self

    def fetch(self, number: int, received: Received, following: int | None = None) -> Segment:
        """Return one verified segment; the arguments and errors of SegmentReader.fetch.

        Raises:
            NoRing: this lease has to be read otherwise.
        """
        with self._broken_if_fails():
            head_frame, head = self._begin(number, received, following)
            used = bytearray()
            return self._copied(head_frame, head, used)

    def arrive(
        self, number: int, received: Received, following: int | None, arriving: Arriving
    ) -> Generator[Came, None, Segment]:
        """As `fetch`, chunk by chunk: a segment whose rows were used has no body."""
        with self._broken_if_fails():
            head_frame, head = self._begin(number, received, following)
            used = bytearray()
            if not arriving.begin(head):
                yield Came(_NOTHING, None)  # who draws ahead leaves it to the consumer
                return self._copied(head_frame, head, used)
            for size in head.chunks:
                self.give_back()
                yield Came(self._chunk(size, used), self._slots)
            return self._end(head_frame, head, used, memoryview(b""))

    @contextlib.contextmanager
    def _broken_if_fails(self) -> Iterator[None]:
        try:
            yield
        except OSError as cause:
            self.close()
            raise Cut("the ring broke") from cause
        except IntegrityError:
            self.close()
            raise

    def acknowledge(self, received: Received) -> None:
        """Tell the worker what was verified in all."""
        if self._sock is not None:
            self._send(frames.ACKNOWLEDGE, frames.RECEIVED.pack(received.segments, received.rows))

    def live(self) -> None:
        """Say that we live, when we said nothing for long; in any thread."""
        if self._is_greeted and time.monotonic() - self._spoke_at >= LIFE_SECONDS:
            self.acknowledge(self._received)

    @property
    def is_connected(self) -> bool:
        """Whether there is somebody to acknowledge to."""
        return self._sock is not None

    def interrupt(self) -> None:
        """End what another thread is waiting for."""
        sock = self._sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def leave_to_fork(self) -> None:
        """A process is forked off, and sees what our consumer has: that comes back no more.

        A connection that is over leaves it as it is; the thread that fetches makes another.
        """
        if self._slots.kept:
            self.interrupt()

    def close(self) -> None:
        """Let go of socket and memory; the next request connects again."""
        with self._sending:
            sock, self._sock = self._sock, None
            self._slots.leave()
            self._slots = Slots(memoryview(b""), 0)
        if sock is not None:
            with contextlib.suppress(OSError):  # a process that was forked off may have it, too
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        self._asked.clear()
        self._is_greeted = False
        self._incoming = frames.Incoming(frames.FROM_WORKER)

    # -- a segment ----------------------------------------------------------------------

    def _ask(self, number: int, received: Received) -> None:
        self._send(frames.GET, frames.WANTED.pack(number, received.segments, received.rows))
        self._asked.append(number)

    def _begin(
        self, number: int, received: Received, following: int | None
    ) -> tuple[bytes, SegmentHead]:
        if self._asked and self._asked[0] != number:
            self.close()
        if self._sock is None:
            self._connect()
        self._received = received
        for wanted in (number, following):
            if wanted is not None and wanted not in self._asked:
                self._ask(wanted, received)
        head_frame = frames.frame(HEAD_MAGIC, self._expect(HEAD_MAGIC))
        return head_frame, read_head(head_frame, number, self._access)

    def _copied(self, head_frame: bytes, head: SegmentHead, used: bytearray) -> Segment:
        placing, at = self._placing(head), 0
        body = memoryview(b"") if placing is not None else self._buffers.lend(head.bytes)
        for size in head.chunks:
            slot = self._filled(size)
            content = self._slots.show(slot, size)
            used.append(slot)
            if placing is None:
                np.copyto(np.frombuffer(body[at : at + size], dtype=np.uint8), content)
            else:
                placing.put(at, content)
            self._slots.put_back(slot)
            self.give_back()
            at += size
        return self._end(head_frame, head, used, body, is_placed=placing is not None)

    def _end(
        self,
        head_frame: bytes,
        head: SegmentHead,
        used: bytearray,
        body: memoryview,
        *,
        is_placed: bool = False,
    ) -> Segment:
        end = frames.frame(END_MAGIC, self._expect(END_MAGIC))
        stated = read_end(head_frame, head, end, self._access)
        if stated.seals != used:
            raise IntegrityError("a chunk of the segment lay in another slot")
        self._asked.popleft()
        return Segment(head, body, stated.receipt, is_placed=is_placed)

    def _chunk(self, size: int, used: bytearray) -> Bytes:
        """Wait for the next chunk, note its slot, and return it to whoever keeps it."""
        slot = self._filled(size)
        content = self._slots.lend(slot, size)
        used.append(slot)
        return content

    def _filled(self, size: int) -> int:
        """Wait for the next chunk, and return its slot."""
        slot, length = frames.CHUNK_PLACE.unpack(self._expect(frames.CHUNK))
        if length != size:
            raise IntegrityError("a slot holds another chunk than the segment has")
        return int(slot)

    def give_back(self, *, is_waiting: bool = False) -> None:
        """Give slots back that nobody looks at any more, when it is time; in any thread.

        Args:
            is_waiting: for the next chunk, now.
        """
        with self._sending:
            slots = self._slots.take_returned(is_waiting=is_waiting)
            words = [frames.frame(frames.CREDIT, frames.RETURNED.pack(slot)) for slot in slots]
            if words and self._sock is not None:
                with contextlib.suppress(OSError):  # the next wait sees that the ring is broken
                    self._sock.sendall(b"".join(words))

    # -- frames -------------------------------------------------------------------------

    def _expect(self, magic: bytes) -> bytes:
        """Wait for a frame of this kind and return its payload; raises what was refused."""
        found, payload = self._receive()
        if found == frames.REFUSAL:
            raise self._refusal(payload)
        if found != magic:
            raise IntegrityError("frames on the ring come in another order than they must")
        return payload

    def _receive(self) -> tuple[bytes, bytes]:
        quiet = 0
        while (frame := self._incoming.next()) is None:
            self.give_back(is_waiting=True)
            try:
                data = self._socket().recv(_RECEIVE_BYTES)
            except TimeoutError:
                quiet += 1
                self._wait_on(quiet)
                continue
            if not data:
                raise ConnectionError("the worker is gone")
            self._incoming.feed(data)
        return frame

    def _wait_on(self, quiet: int) -> None:
        """The worker says nothing."""
        self._meanwhile()
        if not self._is_greeted or quiet * _TICK_SECONDS >= TIMEOUT_SECONDS:
            raise TimeoutError("the worker is silent")
        self.live()

    def _refusal(self, payload: bytes) -> GatewayError:
        if self._asked:
            self._asked.popleft()  # this is the answer to the oldest question
        try:
            return error_of_problem(codec.loads(payload))
        except (GatewayError, AttributeError) as cause:
            raise IntegrityError("a refusal on the ring cannot be read") from cause

    def _send(self, magic: bytes, payload: bytes) -> None:
        self._spoke_at = time.monotonic()
        with self._sending:
            self._socket().sendall(frames.frame(magic, payload))

    def _socket(self) -> socket.socket:
        if self._sock is None:
            raise ConnectionError("the ring was closed")
        return self._sock

    # -- the beginning ------------------------------------------------------------------

    def _connect(self) -> None:
        path = self._access.ring
        if path is None:
            raise NoRing("the gateway offers none")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(GREETING_SECONDS)
        self._sock = sock
        try:
            _connect(sock, Path(path))
            self._greet(sock)
        except StreamStopped:
            self.close()
            raise  # why the lease is over
        except (OSError, GatewayError) as cause:
            self.close()
            raise NoRing(str(cause) or type(cause).__name__) from cause
        sock.settimeout(_TICK_SECONDS)
        self._is_greeted = self.was_greeted = True

    def _greet(self, sock: socket.socket) -> None:
        manifest = self._access.manifest
        challenge = self._expect(frames.CHALLENGE)
        nonce = os.urandom(frames.NONCE_BYTES)
        shake = Handshake(
            key=self._access.key,
            lease=manifest.lease,
            boot=manifest.boot,
            challenge=challenge,
            nonce=nonce,
        )
        hello = frames.Hello(
            v=frames.RING_FORMAT, lease=manifest.lease, nonce=nonce.hex(), mac=shake.hello()
        )
        sock.sendall(frames.greeting(hello))
        data, descriptors, _, _ = socket.recv_fds(sock, _RECEIVE_BYTES, 1)
        with contextlib.ExitStack() as closing:
            for descriptor in descriptors:
                closing.callback(os.close, descriptor)
            if not data:
                raise ConnectionError("the worker is gone")
            self._incoming.feed(data)
            welcome = frames.read_greeting(frames.Welcome, self._expect(frames.WELCOME))
            if not descriptors:
                raise IntegrityError("no memory came with the welcome")
            self._map(welcome, descriptors[0], shake)

    def _map(self, welcome: frames.Welcome, descriptor: int, shake: Handshake) -> None:
        """Map the memory, if it is the worker's and nobody else can change it."""
        facts = os.fstat(descriptor)
        memory = f"{facts.st_dev}:{facts.st_ino}"
        slots, slot_bytes = welcome.slots, welcome.slot_bytes
        shake.check_welcome(welcome.mac, slots, slot_bytes, memory)
        sealed = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
        if sealed & _SEALS != _SEALS or not 0 < slots * slot_bytes <= facts.st_size:
            raise IntegrityError("the memory of the ring is not sealed")
        mapped = mmap.mmap(descriptor, slots * slot_bytes, prot=mmap.PROT_READ)
        self._slots = Slots(memoryview(mapped), slot_bytes)


def _before_fork() -> None:
    for found in _readers.valuerefs():
        reader = found()
        if reader is not None:
            reader.leave_to_fork()


os.register_at_fork(before=_before_fork)


def _connect(sock: socket.socket, path: Path) -> None:
    """Connect to a socket of our own account.

    By way of the directory's descriptor: the address of a Unix socket is 107 bytes at most.
    """
    facts = path.lstat()
    if not stat.S_ISSOCK(facts.st_mode) or facts.st_uid != os.geteuid():
        raise Unavailable("the ring is of another account")
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    if _CREDENTIALS.unpack(raw)[1] != os.geteuid():
        raise Unavailable("the ring is served by another account")
