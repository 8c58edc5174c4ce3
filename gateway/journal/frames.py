"""Frames: how events and LogCheckpoints lie in a segment file (docs/formats/journal-v0.md §2).

A frame is length (u32), kind (u8), CRC-32 of both and of the payload (u32), all little endian,
then the payload. The CRC tells a torn write from a whole one; what protects against an
adversary is the signature over the tree, never the CRC.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator

from gateway.domain.events import EVENT_BYTES_MAX

MAGIC = b"gateway-journal/v0.1\n"
HEADER, EVENT, CHECKPOINT = b"HEC"
_KINDS = frozenset((HEADER, EVENT, CHECKPOINT))
_LEAD = struct.Struct("<IB")
_HEAD = struct.Struct("<IBI")
HEAD_BYTES = _HEAD.size
PAYLOAD_BYTES_MAX = EVENT_BYTES_MAX
_READ_BYTES = 1 << 20


class BadFrame(Exception):
    """No whole frame begins at `offset`: the bytes end inside it, or they are others."""

    def __init__(self, offset: int, *, is_short: bool = False) -> None:
        """Remember where; `is_short` = more bytes could complete it."""
        super().__init__(offset)
        self.offset = offset
        self.is_short = is_short


def frame(kind: int, payload: bytes) -> bytes:
    """One frame."""
    size = len(payload)
    crc = zlib.crc32(payload, zlib.crc32(_LEAD.pack(size, kind)))
    return _HEAD.pack(size, kind, crc) + payload


def scan(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes, int]]:
    """Yield (kind, payload, end offset) of each frame; raises BadFrame where none begins."""
    total = len(data)
    while offset < total:
        if total - offset < HEAD_BYTES:
            raise BadFrame(offset, is_short=True)
        size, kind, crc = _HEAD.unpack_from(data, offset)
        start = offset + HEAD_BYTES
        end = start + size
        if kind not in _KINDS or size > PAYLOAD_BYTES_MAX:
            raise BadFrame(offset)
        if end > total:
            raise BadFrame(offset, is_short=True)
        payload = data[start:end]
        if zlib.crc32(payload, zlib.crc32(data[offset : offset + _LEAD.size])) != crc:
            raise BadFrame(offset)
        yield kind, payload, end
        offset = end


def stream(fd: int, offset: int) -> Iterator[tuple[int, bytes, int]]:
    """`scan` over an open file from `offset` to its present end, in bounded memory."""
    data = b""
    while True:
        more = os.pread(fd, _READ_BYTES, offset + len(data))
        data += more
        done = 0
        try:
            for kind, payload, end in scan(data):
                yield kind, payload, offset + end
                done = end
        except BadFrame as bad:
            if not (bad.is_short and more):
                raise BadFrame(offset + bad.offset, is_short=bad.is_short) from None
        if not more:
            return
        data = data[done:]
        offset += done


def runs(fd: int, offset: int) -> Iterator[tuple[list[bytes], int, bytes, int]]:
    """`stream` by commits: (payloads of EVENT frames, then kind, payload, end of the next one).

    One step per commit instead of one per event; EVENT frames that nothing follows are left out.
    """
    data, events = b"", list[bytes]()
    while more := os.pread(fd, _READ_BYTES, offset + len(data)):
        data += more
        done, total = 0, len(data)
        while (start := done + HEAD_BYTES) <= total:
            size, kind, crc = _HEAD.unpack_from(data, done)
            end = start + size
            if kind not in _KINDS or size > PAYLOAD_BYTES_MAX:
                raise BadFrame(offset + done)
            if end > total:
                break
            payload = data[start:end]
            if zlib.crc32(payload, zlib.crc32(data[done : done + _LEAD.size])) != crc:
                raise BadFrame(offset + done)
            done = end
            if kind == EVENT:
                events.append(payload)
            else:
                yield events, kind, payload, offset + end
                events = []
        data = data[done:]
        offset += done
    if data:
        raise BadFrame(offset, is_short=True)
