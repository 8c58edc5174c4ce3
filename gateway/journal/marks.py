"""Where each commit begins in the files, so that an event is found without reading them all."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Iterator

from gateway.journal import frames
from gateway.journal.segments import Segment


class Marks:
    """Per commit: index of its first event, file and offset (20 bytes each)."""

    def __init__(self) -> None:
        """Start without commits."""
        self._segments: list[Segment] = []
        self._indexes, self._files, self._offsets = array("Q"), array("L"), array("Q")

    def add(self, index: int, segment: Segment, offset: int) -> None:
        """The commit that begins with event `index` stands at `offset` of `segment`."""
        if not self._segments or self._segments[-1] != segment:
            self._segments.append(segment)
        # Readers on other threads look at _indexes only: it grows last.
        self._files.append(len(self._segments) - 1)
        self._offsets.append(offset)
        self._indexes.append(index)

    def truncate(self, size: int) -> None:
        """Forget the commits that begin at event `size` or later."""
        while self._indexes and self._indexes[-1] >= size:
            self._indexes.pop()
            self._files.pop()
            self._offsets.pop()
        del self._segments[(self._files[-1] + 1) if self._files else 0 :]

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
