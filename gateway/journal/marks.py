"""Where each commit begins in the files, so that an event is found without reading them all."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from gateway.domain.merkle import leaf_hash
from gateway.errors import IntegrityError
from gateway.journal import frames
from gateway.journal.segments import Segment
from gateway.journal.tree import BLOCK_EVENTS

_Columns = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


class Marks:
    """Per commit: index of its first event, file and offset (20 bytes each)."""

    def __init__(self) -> None:
        """Start without commits."""
        self._segments: list[Segment] = []
        self._sizes: list[int] = []  # of the files before the last
        self._indexes, self._files, self._offsets = array("Q"), array("L"), array("Q")

    @classmethod
    def restored(cls, segments: list[Segment], sizes: list[int], columns: _Columns) -> Marks:
        """Go on from what `files` and `thinned` gave."""
        marks = cls()
        marks._segments, marks._sizes = list(segments), sizes[:-1]
        marks._indexes, marks._files, marks._offsets = (
            array(code, column) for code, column in zip("QLQ", columns, strict=True)
        )
        return marks

    def add(self, index: int, segment: Segment, offset: int) -> None:
        """The commit that begins with event `index` stands at `offset` of `segment`."""
        if not self._segments or self._segments[-1] != segment:
            self._segments.append(segment)
        # Readers on other threads look at _indexes only: it grows last.
        self._files.append(len(self._segments) - 1)
        self._offsets.append(offset)
        self._indexes.append(index)

    def end_file(self, size: int) -> None:
        """The newest file is complete, with so many bytes."""
        self._sizes.append(size)

    def files(self, size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """First event and bytes of every file with commits; the last one has `size`."""
        return tuple(s.first for s in self._segments), (
            *self._sizes[: len(self._segments) - 1],
            size,
        )

    def thinned(self) -> _Columns:
        """The marks that find every file and every block of events: (indexes, files, offsets)."""
        end = self._indexes[-1] + 1 if self._indexes else 0
        wanted = {bisect_right(self._indexes, low) - 1 for low in range(0, end, BLOCK_EVENTS)}
        wanted |= {bisect_left(self._files, number) for number in range(len(self._segments))}
        columns = (self._indexes, self._files, self._offsets)
        indexes, files, offsets = (tuple(c[at] for at in sorted(wanted)) for c in columns)
        return indexes, files, offsets

    def truncate(self, size: int) -> None:
        """Forget the commits that begin at event `size` or later."""
        while self._indexes and self._indexes[-1] >= size:
            self._indexes.pop()
            self._files.pop()
            self._offsets.pop()
        del self._segments[(self._files[-1] + 1) if self._files else 0 :]
        del self._sizes[max(len(self._segments) - 1, 0) :]

    def payloads(self, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        """(index, canonical bytes) of the events [start, stop), read from the files."""
        while start < stop:
            at = bisect_right(self._indexes, start) - 1
            index, segment = self._indexes[at], self._segments[self._files[at]]
            wanted = start
            fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                for kind, payload, _ in frames.stream(fd, self._offsets[at]):
                    if kind == frames.EVENT:
                        if index >= start:
                            yield index, payload
                            start = index + 1
                        index += 1
                        if index >= stop:
                            return
            finally:
                os.close(fd)
            if start == wanted:  # the file no longer holds what was written
                raise frames.BadFrame(self._offsets[at], is_short=True)

    def leaves(self, start: int, stop: int) -> list[bytes]:
        """Leaf hashes of the events [start, stop), from the files; IntegrityError if unreadable."""
        try:
            return [leaf_hash(data) for _, data in self.payloads(start, stop)]
        except (frames.BadFrame, OSError) as cause:
            message = f"the events from {start} on cannot be read from the disk"
            raise IntegrityError(message, index=start) from cause
