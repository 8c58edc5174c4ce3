"""Frames of a view as they lie in memory: Arrow record batches, cut and joined.

pyarrow is imported when the first frame is read: a stream of plain columns does without it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from gateway.client.slots import Bytes
from gateway.domain.order import Rows
from gateway.errors import IntegrityError
from gateway.wire.segments import SegmentHead

Parts = Sequence[tuple[int, int]]  # offset and bytes of each Arrow message


class Frames:
    """Some frames of a view in the order of their rows: pyarrow.RecordBatches."""

    __slots__ = ("_ends", "_frames")

    def __init__(self, frames: Sequence[Any]) -> None:
        """Take them in the order of their rows."""
        self._frames = frames
        self._ends = list(accumulate([frame.num_rows for frame in frames]))

    @property
    def rows(self) -> int:
        """Over all frames."""
        return self._ends[-1] if self._ends else 0

    @property
    def schema(self) -> Any:
        """Of every frame."""
        return self._frames[0].schema

    def slices(self, start: int, count: int) -> Iterable[Any]:
        """The rows from `start` on, frame by frame, without a copy."""
        return self._frames if count == self.rows else self._slices(start, count)

    def _slices(self, start: int, count: int) -> Iterator[Any]:
        at = bisect_right(self._ends, start)
        while count > 0:
            frame = self._frames[at]
            rows = frame.num_rows
            first = start - self._ends[at] + rows
            taken = min(rows - first, count)
            yield frame if taken == rows else frame.slice(first, taken)
            start, count, at = start + taken, count - taken, at + 1

    def take(self, rows: Rows) -> Any:
        """Rows by their numbers, as one batch."""
        import pyarrow as pa

        (whole,) = self._frames if len(self._frames) == 1 else [pa.concat_batches(self._frames)]
        return whole.take(pa.array(rows))

    def joined(self) -> Frames:
        """The same rows as one frame: for a shuffled segment, whose rows come from all over."""
        import pyarrow as pa

        return self if len(self._frames) == 1 else Frames([pa.concat_batches(self._frames)])


def read_frames(content: Bytes | memoryview, parts: Parts, schema: Any) -> Frames:
    """Return the Arrow messages at `parts` of `content`, without a copy; IntegrityError."""
    import pyarrow as pa

    body = pa.py_buffer(content)
    try:
        return Frames(
            [pa.ipc.read_record_batch(body.slice(offset, size), schema) for offset, size in parts]
        )
    except (pa.ArrowException, ValueError, OSError, EOFError) as cause:
        raise IntegrityError("a segment holds what is no Arrow message") from cause


@dataclass(slots=True)  # made anew for every batch: freezing takes thrice as long
class FrameRows:
    """Rows of the frames in one piece of memory; see `arriving.Rows`."""

    content: Bytes
    parts: Parts  # where in it the frames lie
    frames: Frames
    start: int
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, span: slice) -> FrameRows:
        start, stop, _ = span.indices(self.count)
        count = max(0, stop - start)
        return FrameRows(self.content, self.parts, self.frames, self.start + start, count)

    def copy(self) -> FrameRows:
        """The same rows in memory of their own."""
        content = self.content.copy()
        frames = read_frames(content, self.parts, self.frames.schema)
        return FrameRows(content, self.parts, frames, self.start, self.count)

    def batches(self) -> Iterable[Any]:
        """As RecordBatches that lie where they lie."""
        return self.frames.slices(self.start, self.count)


class FrameLayout:
    """How the frames of a segment of a view lie in its chunks; see `arriving.Layout`."""

    def __init__(self, schema: Any) -> None:
        """Of every frame."""
        self._schema = schema
        self._parts: Parts = ()
        self._at = self._next = 0  # byte of the body, part

    def begin(self, head: SegmentHead) -> bool:
        """A fetch begins; whether no frame of it goes on in another chunk."""
        self._parts, self._at, self._next = head.parts, 0, 0
        ends = [*accumulate(head.chunks), head.bytes]
        return all(offset + size <= ends[bisect_right(ends, offset)]
                   for offset, size in head.parts if size)  # fmt: skip

    def rows(self, content: Bytes) -> FrameRows:
        """Return the rows in the next bytes of the body; IntegrityError if they are none."""
        begin, self._at = self._at, self._at + len(content)
        parts = []
        while self._next < len(self._parts) and self._parts[self._next][0] < self._at:
            offset, size = self._parts[self._next]
            parts.append((offset - begin, size))
            self._next += 1
        frames = read_frames(content, parts, self._schema)
        return FrameRows(content, parts, frames, 0, frames.rows)
