"""Batches from verified segments: numpy arrays, or Arrow RecordBatches.

Direct segments need numpy only: a column is a view of the segment's memory. Views carry Arrow
messages; pyarrow is imported when the first one arrives.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gateway.client.arriving import Arriving, ColumnLayout
from gateway.client.drawing import Turns
from gateway.client.frames import FrameLayout, Frames, read_frames
from gateway.client.joining import Joiner
from gateway.client.segments import Segment
from gateway.domain.order import Rows, window_order
from gateway.errors import IntegrityError
from gateway.wire.leases import LeaseManifest

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
        is_whole_rows = len(manifest.columns) == 1 or self.schema is not None
        self.is_arriving = is_one_lane and not self._key and is_whole_rows

    def arriving(self, rows: int, turns: Turns) -> Arriving:
        """Return a segment of so many rows that is used while it arrives, if `is_arriving`."""
        if self.schema is not None:
            return Arriving("", FrameLayout(self.schema), rows, turns)
        column = self._manifest.columns[0]
        return Arriving(column.name, ColumnLayout(column), rows, turns)

    def open(self, segment: Segment) -> OpenSegment:
        """Return the columns of a segment; IntegrityError when they do not fit the manifest."""
        head = segment.head
        order = window_order(self._key, head.segment, head.rows) if self._key else None
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
        frames = read_frames(segment.body, segment.head.parts, self.schema)
        if frames.rows != segment.head.rows:
            raise IntegrityError("a segment has other rows than its head says")
        return frames


class Batches:
    """Makes the batches of one stream: as Arrow, or as numpy arrays."""

    def __init__(self, schema: Any, *, is_view: bool, is_arrow: bool) -> None:
        """Take the Arrow schema of a view, or of batches that are Arrow; else None."""
        self.schema = schema
        self._joiner = Joiner(schema) if is_view else None
        self._is_arrow = is_arrow

    @classmethod
    def of_lease(cls, manifest: LeaseManifest, *, is_arrow: bool) -> Self:
        """Read the columns of a lease; IntegrityError when its schema cannot be read."""
        is_view = manifest.kind == "view"
        schema = arrow_schema(manifest) if is_arrow or is_view else None
        return cls(schema, is_view=is_view, is_arrow=is_arrow)

    def make(self, parts: Iterable[Part], rows: int) -> Any:
        """Return one batch; rows of one unshuffled segment may lie in its memory.

        Args:
            parts: asked for one by one: a segment that arrives has its rows before the next
                begins.
            rows: of all parts.
        """
        if self._joiner is not None:
            pieces = _pieces(parts)
            join = self._joiner.join if self._is_arrow else self._joiner.arrays
            return join(pieces, rows)
        return self.of_arrays(_direct(parts))

    def of_arrays(self, arrays: Arrays) -> Any:
        """Return one batch of plain columns, without a copy."""
        return _direct_to_arrow(arrays, self.schema) if self._is_arrow else arrays


def _direct(parts: Iterable[Part]) -> Arrays:
    iterator = iter(parts)
    first = next(iterator)
    if isinstance(first.segment, Arriving):
        return _arrived(first.segment.name, chain((first,), iterator))
    return _opened([first, *iterator])


def _pieces(parts: Iterable[Part]) -> Iterator[Any]:
    """The RecordBatches of a view's parts, as they lie."""
    for part in parts:
        segment, start, count = part.segment, part.start, part.count
        if isinstance(segment, Arriving):
            for rows in segment.pieces(start, count):
                yield from rows.batches()
            continue
        assert segment.frames is not None, "one lease has one kind of segments"
        if segment.order is None:
            yield from segment.frames.slices(start, count)
        else:
            yield segment.frames.take(segment.order[start : start + count])


def _arrived(name: str, parts: Iterable[Part]) -> Arrays:
    pieces: list[NDArray[Any]] = []
    for part in parts:
        assert isinstance(part.segment, Arriving), "a stream has segments of one kind"
        pieces += part.segment.pieces(part.start, part.count)
    return {name: pieces[0] if len(pieces) == 1 else np.concatenate(pieces)}


def _opened(parts: Sequence[Part]) -> Arrays:
    first = _segment(parts[0])
    if len(parts) == 1 and first.order is None:
        part = parts[0]
        span = slice(part.start, part.start + part.count)
        return {name: column[span] for name, column in first.columns.items()}
    return {name: _gather(parts, name) for name in first.columns}


def _segment(part: Part) -> OpenSegment:
    assert isinstance(part.segment, OpenSegment), "a stream has segments of one kind"
    return part.segment


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
