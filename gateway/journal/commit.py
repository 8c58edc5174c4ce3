"""One group commit: events and their signed LogCheckpoint in one write and one fdatasync."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from gateway import failpoints
from gateway.crypto.signing import Signer
from gateway.journal import frames, segments
from gateway.journal.anchor import Anchor
from gateway.journal.checkpoint import LogCheckpoint, origin_of
from gateway.journal.marks import Marks
from gateway.journal.segments import Segment

ANCHOR_SYNC_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that become durable together: frames, and the tree with them."""

    first: int  # index of the first one
    size: int  # events in the tree after the last one
    root: bytes
    edge: tuple[bytes, ...]  # of the tree, for the header of a next file
    data: list[bytes]


@dataclass(slots=True, kw_only=True)
class CommitFile:
    """The open end of the journal. Any OSError leaves it unusable; the journal then stops."""

    directory: Path
    node: str
    signer: Signer
    anchor: Anchor
    marks: Marks
    segment_bytes: int
    segment: Segment
    fd: int
    offset: int
    is_anchor_synced: bool = True
    _anchored_at: float = 0.0

    def commit(self, batch: Batch) -> str:
        """Write, sync and anchor `batch`; returns the signed LogCheckpoint."""
        checkpoint = LogCheckpoint(origin=origin_of(self.node), size=batch.size, root=batch.root)
        note = checkpoint.signed(self.signer)
        data = b"".join((*batch.data, frames.frame(frames.CHECKPOINT, note.encode("utf-8"))))
        failpoints.reach("disk.journal")
        segments.write_all(self.fd, data)
        failpoints.reach("disk.journal-sync")
        os.fdatasync(self.fd)
        self.marks.add(batch.first, self.segment, self.offset)
        self.offset += len(data)
        failpoints.reach("disk.anchor")
        self.anchor.write(note)
        self.is_anchor_synced = False
        return note

    def sync_anchor(self) -> None:
        """Make the newest LogCheckpoint in the anchor durable."""
        self.anchor.sync()
        self._anchored_at = time.monotonic()
        self.is_anchor_synced = True

    def settle(self, batch: Batch) -> None:
        """What may follow the acknowledgement: sync the anchor, begin the next file."""
        if time.monotonic() - self._anchored_at >= ANCHOR_SYNC_SECONDS:
            self.sync_anchor()
        if self.offset >= self.segment_bytes:
            os.close(self.fd)
            self.marks.end_file(self.offset)
            self.begin(batch.size, batch.edge)

    def begin(self, size: int, edge: tuple[bytes, ...]) -> None:
        """Begin the file whose first event is `size`."""
        self.segment, self.fd = segments.create(
            self.directory, first=size, node=self.node, edge=edge
        )
        self.offset = os.fstat(self.fd).st_size

    def close(self) -> None:
        """Sync the anchor and close both files."""
        try:
            self.anchor.close()
        finally:
            os.close(self.fd)
