"""Batches from verified segments: numpy arrays, or Arrow RecordBatches.

Direct segments need numpy only: a column is a view of the segment's memory. Views carry Arrow
messages; pyarrow is imported when the first one arrives.
"""

from __future__ import annotations

import base64
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.client.arriving import Arriving
from gateway.client.segments import Segment
from gateway.client.windows import Window
from gateway.domain.order import Rows, window_order
from gateway.errors import IntegrityError, InvalidInput
from gateway.wire.leases import LeaseManifest
from gateway.wire.segments import SegmentHead

Arrays = dict[str, NDArray[Any]]


@dataclass(slots=True)  # made anew for every batch: freezing takes thrice as long
class Part:
    """`count` rows of a segment, from its row `start` in the order of delivery."""

    segment: OpenSegment | Arriving
    start: int
    count: int


@dataclass(frozen=True, slots=True)
class OpenSegment:
    """One segment ready to be cut: its columns, and the order of its rows when shuffled."""

    columns: Arrays  # of a direct segment
    frames: Frames | None  # of a view
    order: Rows | None


class Frames:
    """The frames of one segment of a view: pyarrow.RecordBatches over the segment's memory."""

    __slots__ = ("_ends", "_frames")

    def __init__(self, frames: Sequence[Any]) -> None:
        """Take them in the order of their rows."""
        self._frames = frames
        self._ends = list(accumulate(frame.num_rows for frame in frames))

    @property
    def rows(self) -> int:
        """Over all frames."""
        return self._ends[-1] if self._ends else 0

    @property
    def schema(self) -> Any:
        """Of every frame."""
        return self._frames[0].schema

    def slices(self, start: int, count: int) -> Iterator[Any]:
        """The rows from `start` on, frame by frame, without a copy."""
        at = bisect_right(self._ends, start)
        while count > 0:
            frame = self._frames[at]
            piece = frame.slice(start - self._ends[at] + frame.num_rows, count)
            yield piece
            start, count, at = start + piece.num_rows, count - piece.num_rows, at + 1

    def take(self, rows: Rows) -> Any:
        """Rows by their numbers, as one batch."""
        import pyarrow as pa

        (whole,) = self._frames if len(self._frames) == 1 else [pa.concat_batches(self._frames)]
        return whole.take(pa.array(rows))

    def joined(self) -> Frames:
        """The same rows as one frame: for a shuffled segment, whose rows come from all over."""
        import pyarrow as pa

        return self if len(self._frames) == 1 else Frames([pa.concat_batches(self._frames)])


class Opener:
    """Turns verified segments of one lease into columns."""

    def __init__(self, manifest: LeaseManifest) -> None:
        """Read the columns and, of a view, the schema."""
        self._manifest = manifest
        self._key = bytes.fromhex(manifest.window_key)
        self.schema: Any = None
        if manifest.kind == "view":
            self.schema = arrow_schema(manifest)
        order = manifest.order
        is_one_lane = order.lanes_chosen == order.world  # as lanes are dealt, one for each rank
        self.is_arriving = (
            is_one_lane and not self._key and self.schema is None and len(manifest.columns) == 1
        )

    def arriving(self, rows: int, give_back: Callable[[bool], None]) -> Arriving:
        """Return a segment of so many rows that is used while it arrives, if `is_arriving`."""
        return Arriving(self._manifest.columns[0], rows, give_back)

    def window(self, head: SegmentHead) -> Window | None:
        """Where the rows of a shuffled segment belong, if they can be put there as they come."""
        if not self._key or self.schema is not None:
            return None
        return Window.of(head, self._manifest.columns, self._key)

    def open(self, segment: Segment) -> OpenSegment:
        """Return the columns of a segment; IntegrityError when they do not fit the manifest."""
        head = segment.head
        is_stored = self._key and not segment.in_order
        order = window_order(self._key, head.segment, head.rows) if is_stored else None
        if self.schema is None:
            return OpenSegment(self._direct(segment), None, order)
        frames = self._view(segment)
        return OpenSegment({}, frames if order is None else frames.joined(), order)

    def _direct(self, segment: Segment) -> Arrays:
        columns: Arrays = {}
        rows = segment.head.rows
        for column, (offset, size) in zip(self._manifest.columns, segment.head.parts, strict=False):
            dtype = np.dtype(column.dtype)
            count = rows * int(np.prod(column.shape, dtype=np.int64))
            if size != count * dtype.itemsize:
                raise IntegrityError(f"column `{column.name}` has another size than its type")
            flat = np.frombuffer(segment.body, dtype=dtype, count=count, offset=offset)
            columns[column.name] = flat.reshape(rows, *column.shape)
        if len(columns) != len(segment.head.parts) or len(columns) != len(self._manifest.columns):
            raise IntegrityError("a segment has other columns than the lease manifest")
        return columns

    def _view(self, segment: Segment) -> Frames:
        import pyarrow as pa

        body = pa.py_buffer(segment.body)
        try:
            batches = [
                pa.ipc.read_record_batch(body.slice(offset, size), self.schema)
                for offset, size in segment.head.parts
            ]
        except (pa.ArrowException, ValueError, OSError) as cause:
            raise IntegrityError("a segment holds what is no Arrow message") from cause
        frames = Frames(batches)
        if frames.rows != segment.head.rows:
            raise IntegrityError("a segment has other rows than its head says")
        return frames


def to_numpy(parts: Iterable[Part]) -> Arrays:
    """Return one batch; rows of one unshuffled segment may be a view of its memory.

    Parts are asked for one by one: a segment that arrives has its rows before the next begins.
    """
    iterator = iter(parts)
    first = next(iterator)
    if isinstance(first.segment, Arriving):
        return _arrived(first.segment.name, chain((first,), iterator))
    return _opened([first, *iterator])


def _arrived(name: str, parts: Iterable[Part]) -> Arrays:
    pieces: list[NDArray[Any]] = []
    for part in parts:
        assert isinstance(part.segment, Arriving), "a stream has segments of one kind"
        pieces += part.segment.pieces(part.start, part.count)
    return {name: pieces[0] if len(pieces) == 1 else np.concatenate(pieces)}


def _opened(parts: Sequence[Part]) -> Arrays:
    first = _segment(parts[0])
    if first.frames is not None:
        batch = _views(parts)
        return {name: _objects(name, batch.column(i)) for i, name in enumerate(batch.schema.names)}
    if len(parts) == 1 and first.order is None:
        part = parts[0]
        span = slice(part.start, part.start + part.count)
        return {name: column[span] for name, column in first.columns.items()}
    return {name: _gather(parts, name) for name in first.columns}


def _segment(part: Part) -> OpenSegment:
    assert isinstance(part.segment, OpenSegment), "a stream has segments of one kind"
    return part.segment


def _objects(name: str, column: Any) -> NDArray[Any]:
    import pyarrow as pa

    try:
        array: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    except (pa.ArrowException, ValueError, OverflowError) as cause:
        # Python's times and dates are coarser and fewer than Arrow's.
        raise InvalidInput(
            f"column `{name[:80]}` (`{str(column.type)[:80]}`) has a value that numpy cannot hold",
            advice="stream it as Arrow: output `arrow`, or leave the column out",
        ) from cause
    return array


def _gather(parts: Sequence[Part], name: str) -> NDArray[Any]:
    first = _segment(parts[0]).columns[name]
    out = np.empty((sum(part.count for part in parts), *first.shape[1:]), dtype=first.dtype)
    at = 0
    for part in parts:
        segment, span = _segment(part), slice(part.start, part.start + part.count)
        column, target = segment.columns[name], out[at : at + part.count]
        if segment.order is None:
            target[:] = column[span]
        else:
            np.take(column, segment.order[span], axis=0, out=target, mode="clip")
        at += part.count
    return out


def to_arrow(parts: Iterable[Part], schema: Any) -> Any:
    """Return one batch as pyarrow.RecordBatch of the lease's `arrow_schema`."""
    iterator = iter(parts)
    first = next(iterator)
    if isinstance(first.segment, OpenSegment) and first.segment.frames is not None:
        return _views([first, *iterator])
    return _direct_to_arrow(to_numpy(chain((first,), iterator)), schema)


def _views(parts: Sequence[Part]) -> Any:
    import pyarrow as pa

    cut: list[Any] = []
    for part in parts:
        segment = _segment(part)
        assert segment.frames is not None, "one lease has one kind of segments"
        if segment.order is None:
            cut += segment.frames.slices(part.start, part.count)
        else:
            order = segment.order[part.start : part.start + part.count]
            cut.append(segment.frames.take(order))
    return cut[0] if len(cut) == 1 else pa.concat_batches(cut)


def arrow_schema(manifest: LeaseManifest) -> Any:
    """The schema of the lease's batches, also when there is none of them; IntegrityError."""
    if manifest.kind == "direct":
        from gateway.client.arrow_types import direct_schema

        return direct_schema(manifest.columns)
    import pyarrow as pa

    try:
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(manifest.schema or "")))
    except (pa.ArrowException, ValueError, OSError) as cause:
        raise IntegrityError("the schema of the lease cannot be read") from cause


def _direct_to_arrow(arrays: Arrays, schema: Any) -> Any:
    import pyarrow as pa

    from gateway.client.arrow_types import direct_column

    columns = [direct_column(arrays[field.name], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
