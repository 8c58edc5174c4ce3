"""Frames on the Unix socket of a ring (docs/formats/ring-v1.md). Standard library only.

Each is `magic 4 | length 4 (little endian) | payload`; the head and end frames of segment-v1
travel among them as they are. Bytes of a segment never do: they lie in the slots of the ring.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from gateway.errors import GatewayError, IntegrityError
from gateway.wire import codec
from gateway.wire.segments import (
    END_BYTES_MAX,
    END_MAGIC,
    HEAD_BYTES_MAX,
    HEAD_MAGIC,
    PREFIX,
    canonical,
)

RING_FORMAT = "ring-v1"
SLOTS = 8
NONCE_BYTES = 32

CHALLENGE, WELCOME, CHUNK, REFUSAL = b"GWN1", b"GWW1", b"GWC1", b"GWR1"  # worker to client
HELLO, GET, CREDIT, ACKNOWLEDGE = b"GWH1", b"GWG1", b"GWK1", b"GWA1"  # client to worker
CHUNK_PLACE = struct.Struct("<II")  # slot, bytes
WANTED = struct.Struct("<QQQ")  # segment; segments and rows verified so far
RETURNED = struct.Struct("<I")  # slot
RECEIVED = struct.Struct("<QQ")  # segments and rows verified so far

Lengths = Mapping[bytes, tuple[int, int]]  # of the payload: least and most bytes
FROM_WORKER: Final[Lengths] = {
    CHALLENGE: (NONCE_BYTES, NONCE_BYTES),
    WELCOME: (2, 1024),
    HEAD_MAGIC: (2, HEAD_BYTES_MAX),
    CHUNK: (CHUNK_PLACE.size, CHUNK_PLACE.size),
    END_MAGIC: (2, END_BYTES_MAX),
    REFUSAL: (2, 64 << 10),
}
FROM_CLIENT: Final[Lengths] = {
    HELLO: (2, 1024),
    GET: (WANTED.size, WANTED.size),
    CREDIT: (RETURNED.size, RETURNED.size),
    ACKNOWLEDGE: (RECEIVED.size, RECEIVED.size),
}
T = TypeVar("T", "Hello", "Welcome")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Who the client is: payload of HELLO."""

    v: str
    lease: str
    nonce: str  # hex, of the client
    mac: str  # hex; crypto/ring.py


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """What the descriptor is that comes with it: payload of WELCOME."""

    v: str
    slots: int
    slot_bytes: int
    memory: str  # `device:inode` of the memfd
    mac: str  # hex; crypto/ring.py


def frame(magic: bytes, payload: bytes) -> bytes:
    """Return one frame."""
    return PREFIX.pack(magic, len(payload)) + payload


def greeting(value: Hello | Welcome) -> bytes:
    """Return a hello or welcome as frame."""
    magic = HELLO if isinstance(value, Hello) else WELCOME
    return frame(magic, canonical(codec.encode(value)))


def read_greeting(kind: type[T], payload: bytes) -> T:
    """Return the hello or welcome of a payload; raises IntegrityError."""
    try:
        value = codec.decode(kind, codec.loads(payload))
    except GatewayError as cause:
        raise IntegrityError("the greeting on a ring cannot be read") from cause
    if value.v != RING_FORMAT or canonical(codec.encode(value)) != payload:
        raise IntegrityError("the greeting on a ring has another version or form")
    return value


class Incoming:
    """What came over a socket, cut into frames; refuses what the other side may not send."""

    def __init__(self, lengths: Lengths) -> None:
        """Accept the magics of `lengths`, with payloads of so many bytes."""
        self._lengths = lengths
        self._bytes = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes."""
        self._bytes += data

    def next(self) -> tuple[bytes, bytes] | None:
        """Return magic and payload of the next whole frame; raises IntegrityError."""
        if len(self._bytes) < PREFIX.size:
            return None
        magic, length = PREFIX.unpack_from(self._bytes)
        least, most = self._lengths.get(magic, (1, 0))
        if not least <= length <= most:
            raise IntegrityError("a frame on a ring is none that belongs there")
        end = PREFIX.size + length
        if len(self._bytes) < end:
            return None
        payload = bytes(self._bytes[PREFIX.size : end])
        del self._bytes[:end]
        return magic, payload
