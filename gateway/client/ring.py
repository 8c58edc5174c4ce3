"""Fetch segments of a lease from a ring of sealed memory (docs/formats/ring-v1.md).

For a gateway on this host. Chunks are copied out of their slots once, and the slots given
back; nothing of a segment is used before its end frame and every chunk have been verified.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import socket
import stat
import struct
from collections import deque
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gateway.client.buffers import Buffers
from gateway.client.segments import Access, Cut, Received, Segment, read_end, read_head
from gateway.crypto.ring import CHUNK_SEAL_BYTES, Handshake, chunk_seal
from gateway.errors import GatewayError, IntegrityError, StreamStopped, Unavailable
from gateway.wire import codec
from gateway.wire import ring as frames
from gateway.wire.problems import error_of_problem
from gateway.wire.segments import END_MAGIC, HEAD_MAGIC, PREFIX, SegmentHead

TIMEOUT_SECONDS = 60.0
GREETING_SECONDS = 5.0
CREDITS_AT_ONCE = frames.SLOTS // 2  # each word wakes the worker
_CREDIT_FRAME_BYTES = PREFIX.size + frames.RETURNED.size
_RECEIVE_BYTES = 64 << 10
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
_SEALS = 0x0002 | 0x0004 | 0x0010 | 0x0001  # shrink, grow, future write, seal (linux/fcntl.h)


class NoRing(Exception):
    """There is no ring to be had here; the text says why."""


class RingReader:
    """One ring of one lease. Not for several threads at once."""

    def __init__(self, access: Access, buffers: Buffers) -> None:
        """Nothing is opened yet."""
        self._access, self._buffers = access, buffers
        self._asked: deque[int] = deque()
        self._sock: socket.socket | None = None
        self._memory: memoryview = memoryview(b"")
        self._slot_bytes = 0
        self._incoming = frames.Incoming(frames.FROM_WORKER)

    def fetch(self, number: int, received: Received, following: int | None = None) -> Segment:
        """Return one verified segment; the arguments and errors of SegmentReader.fetch.

        Raises:
            NoRing: this lease has to be read otherwise.
        """
        if self._asked and self._asked[0] != number:
            self.close()
        if self._sock is None:
            self._connect()
        try:
            for wanted in (number, following):
                if wanted is not None and wanted not in self._asked:
                    self._ask(wanted, received)
            segment = self._segment(number)
        except OSError as cause:
            self.close()
            raise Cut("the ring broke") from cause
        except IntegrityError:
            self.close()
            raise
        self._asked.popleft()
        return segment

    def acknowledge(self, received: Received) -> None:
        """Tell the worker what was verified in all."""
        if self._sock is not None:
            self._send(frames.ACKNOWLEDGE, frames.RECEIVED.pack(received.segments, received.rows))

    def interrupt(self) -> None:
        """End what another thread is waiting for."""
        sock = self._sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of socket and memory; the next request connects again."""
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()
        self._memory = memoryview(b"")
        self._asked.clear()
        self._incoming = frames.Incoming(frames.FROM_WORKER)

    # -- a segment ----------------------------------------------------------------------

    def _ask(self, number: int, received: Received) -> None:
        self._send(frames.GET, frames.WANTED.pack(number, received.segments, received.rows))
        self._asked.append(number)

    def _segment(self, number: int) -> Segment:
        head_frame = frames.frame(HEAD_MAGIC, self._expect(HEAD_MAGIC))
        head = read_head(head_frame, number, self._access)
        body = self._buffers.lend(head.bytes)
        seals = b"".join(self._chunks(head, body))
        end = frames.frame(END_MAGIC, self._expect(END_MAGIC))
        stated = read_end(head_frame, head, end, self._access)
        if stated.seals != seals or len(seals) != CHUNK_SEAL_BYTES * len(head.chunks):
            raise IntegrityError("a chunk of the segment is not the one that was opened")
        return Segment(head, body, stated.receipt)

    def _chunks(self, head: SegmentHead, body: memoryview) -> list[bytes]:
        """Copy every chunk to its place; what is sealed is the copy, not the slot."""
        seals, at, returned = [], 0, bytearray()
        for left, size in zip(reversed(range(len(head.chunks))), head.chunks, strict=True):
            slot, length = frames.CHUNK_PLACE.unpack(self._expect(frames.CHUNK))
            start = slot * self._slot_bytes
            if length != size or length > self._slot_bytes or start + length > len(self._memory):
                raise IntegrityError("a slot holds another chunk than the segment has")
            copy = body[at : at + size]
            np.copyto(_array(copy), _array(self._memory[start : start + size]))
            seals.append(chunk_seal(copy))
            returned += frames.frame(frames.CREDIT, frames.RETURNED.pack(slot))
            if not left or len(returned) >= CREDITS_AT_ONCE * _CREDIT_FRAME_BYTES:
                self._socket().sendall(returned)
                returned.clear()
            at += size
        return seals

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
        while (frame := self._incoming.next()) is None:
            data = self._socket().recv(_RECEIVE_BYTES)
            if not data:
                raise ConnectionError("the worker is gone")
            self._incoming.feed(data)
        return frame

    def _refusal(self, payload: bytes) -> GatewayError:
        if self._asked:
            self._asked.popleft()  # this is the answer to the oldest question
        try:
            return error_of_problem(codec.loads(payload))
        except (GatewayError, AttributeError) as cause:
            raise IntegrityError("a refusal on the ring cannot be read") from cause

    def _send(self, magic: bytes, payload: bytes) -> None:
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
        sock.settimeout(TIMEOUT_SECONDS)

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
        self._memory, self._slot_bytes = memoryview(mapped), slot_bytes


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


def _array(data: memoryview) -> NDArray[np.uint8]:
    return np.frombuffer(data, dtype=np.uint8)
