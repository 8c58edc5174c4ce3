"""One segment as bytes: head frame, chunks opened one by one, authenticated end frame."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

from gateway.crypto.segments import MAC_BYTES, SEAL_BYTES, Frame, FrameMac
from gateway.delivery.sources import Piece, Source
from gateway.delivery.spec import LeaseSpec
from gateway.domain.order import Segment
from gateway.wire.segments import (
    CHUNK_BYTES_MAX,
    SegmentHead,
    canonical,
    end_frame,
    head_frame,
)

Place = Callable[[], memoryview]  # CHUNK_BYTES_MAX bytes for the next chunk
Seal = Callable[[FrameMac, memoryview, int], bytes]  # of a chunk at its position


def keyed_seal(mac: FrameMac, chunk: memoryview, position: int) -> bytes:
    """The seal of a chunk that travels where others could change it."""
    return mac.seal_content(chunk, position=position)


class SegmentBody:
    """The bytes of one segment of one lease; head and body are the same every time."""

    def __init__(self, spec: LeaseSpec, segment: Segment, source: Source, *, final: bool) -> None:
        """Plan the body; nothing is opened yet.

        Args:
            spec: the lease.
            segment: which one.
            source: where its pieces come from.
            final: whether no segment of the lease has a higher number.
        """
        self._spec, self._segment, self._source, self._final = spec, segment, source, final
        parts = source.parts(segment)
        self._groups = list(_groups(piece for part in parts for piece in part))
        offsets: list[tuple[int, int]] = []
        at = 0
        for part in parts:
            size = sum(piece.size for piece in part if piece.block >= 0)
            offsets.append((at, size))
            at += sum(piece.size for piece in part)
        self.head = SegmentHead(
            lease=spec.lease,
            segment=segment.number,
            plan=spec.plan_digest,
            kind=spec.kind,
            rows=segment.rows,
            blocks=len(segment.blocks),
            bytes=at,
            chunks=tuple(n for group in self._groups for n in _chunk_sizes(group)),
            parts=tuple(offsets),
        )
        self._head_frame = head_frame(self.head.to_json())

    def length(self, receipt: str) -> int:
        """Return the exact bytes of all frames together."""
        seals = bytes(SEAL_BYTES * len(self.head.chunks))
        end = end_frame({**self._end(seals, receipt), "mac": bytes(MAC_BYTES).hex()})
        return len(self._head_frame) + self.head.bytes + len(end)

    def frames(self, receipt: str, place: Place, seal: Seal) -> Generator[bytes | memoryview]:
        """Make head, chunks (each at most 1 MiB) and end; raises IntegrityError.

        A chunk is yielded after every tag in it held. The next one is not opened before it
        is asked for.

        Args:
            receipt: of the durable intent.
            place: asked once for each chunk, which is opened there.
            seal: proves a chunk in the end frame.
        """
        yield self._head_frame
        spec = self._spec
        mac = FrameMac(spec.key, spec.lease, spec.plan_digest, self._segment.number)
        seals: list[bytes] = []
        for group in self._groups:
            for chunk in self._chunks(group, place):
                seals.append(seal(mac, chunk, len(seals)))
                yield chunk
        digest = b"".join(seals)
        end = self._end(digest, receipt)
        stated = Frame(
            head=self._head_frame + canonical(end),
            position=0,
            rows=self.head.rows,
            size=self.head.bytes,
            digest=digest,
            final=True,
        )
        yield end_frame({**end, "mac": mac.mac(stated).hex()})

    def _chunks(self, group: list[Piece], place: Place) -> Iterator[memoryview]:
        size = sum(piece.size for piece in group)
        if size <= CHUNK_BYTES_MAX:
            chunk = place()[:size]
            self._open(group, chunk)
            yield chunk
            return
        whole = memoryview(bytearray(size))  # one piece has one tag: it is opened as a whole
        self._open(group, whole)
        for at in range(0, size, CHUNK_BYTES_MAX):
            part = whole[at : at + CHUNK_BYTES_MAX]
            chunk = place()[: len(part)]
            chunk[:] = part
            yield chunk

    def _open(self, group: list[Piece], out: memoryview) -> None:
        at = 0
        for piece in group:
            place = out[at : at + piece.size]
            if piece.block >= 0:
                self._source.open(piece, place)
            else:
                place[:] = bytes(piece.size)  # never what the memory held before
            at += piece.size

    def _end(self, seals: bytes, receipt: str) -> dict[str, Any]:
        return {
            "segment": self._segment.number,
            "rows": self.head.rows,
            "blocks": self.head.blocks,
            "bytes": self.head.bytes,
            "seals": seals.hex(),
            "final": self._final,
            "receipt": receipt,
        }


def _groups(pieces: Iterator[Piece]) -> Iterator[list[Piece]]:
    """Pieces that are opened together: up to one chunk, or one piece that is larger."""
    group: list[Piece] = []
    held = 0
    for piece in pieces:
        if group and held + piece.size > CHUNK_BYTES_MAX:
            yield group
            group, held = [], 0
        group.append(piece)
        held += piece.size
    if group:
        yield group


def _chunk_sizes(group: list[Piece]) -> Iterator[int]:
    left = sum(piece.size for piece in group)
    while left > 0:
        yield min(left, CHUNK_BYTES_MAX)
        left -= CHUNK_BYTES_MAX
