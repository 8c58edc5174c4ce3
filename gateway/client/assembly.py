"""Shuffled batches put together while their segments arrive: one copy, straight into its place.

A batch takes rows of each lane in turn, from all over a segment of 16 MiB. So the prefetching
thread puts each row where its batch will have it, and a batch is handed out as it lies there,
when all segments it has rows of are verified.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.client.position import Step
from gateway.client.row_places import NOWHERE, RowPlaces
from gateway.client.segments import Segment
from gateway.client.slots import Bytes
from gateway.client.trays import KEPT_MAX, Arrays, Column, Layout, Memory
from gateway.domain.order import Rows, window_order
from gateway.errors import IntegrityError
from gateway.wire.leases import LeaseManifest
from gateway.wire.segments import SegmentHead

_LEFT = -1 << 30  # a tray: rows in it would have a place below NOWHERE


class _Part(NamedTuple):
    """One column of a body, and where its rows go."""

    offset: int
    size: int
    target: NDArray[Any]


class Placing:
    """Where the rows of one segment go."""

    def __init__(self, parts: Sequence[_Part], rows: Rows) -> None:
        """Row `i` as it is stored goes to `rows[i]` of each target, or NOWHERE."""
        self._parts, self._rows = parts, rows
        self._is_whole = bool((rows != NOWHERE).all())

    def put(self, at: int, content: Bytes) -> None:
        """Put the rows in `content`, which begins at byte `at` of the segment, in their places."""
        for offset, size, target in self._parts:
            start, stop = max(at, offset), min(at + len(content), offset + size)
            if start >= stop:
                continue
            rows = content[start - at : stop - at].view(target.dtype)
            first = (start - offset) // target.itemsize
            places = self._rows[first : first + len(rows)]
            if not self._is_whole:
                ours = places != NOWHERE
                rows, places = rows[ours], places[ours]
            target[places] = rows


class Assembly:
    """The batches of one pass. One thread places segments, another takes the batches."""

    def __init__(
        self, manifest: LeaseManifest, places: RowPlaces, memory: Memory, segments_ahead: int
    ) -> None:
        """Get memory for as many batches as can be in the making at once.

        Args:
            manifest: of a direct, shuffled lease.
            places: where rows go.
            memory: where the trays come from, and go to by `keep`.
            segments_ahead: how many segments are fetched ahead of need.
        """
        self._key = bytes.fromhex(manifest.window_key)
        self._segment_rows = [rows for lane in manifest.lanes for rows in lane]
        columns = [Column(c.name, c.dtype, c.shape) for c in manifest.columns]
        layout = Layout.of(columns, places.batch_rows)
        order = manifest.order
        at_once = max(1, order.lanes_chosen // order.world)  # segments whose rows make one batch
        windows = 1 - -segments_ahead // at_once
        self._places, self._memory, self._layout = places, memory, layout
        self._trays = memory.trays(layout, layout.count(places.steps_max, windows))
        self._filled: dict[int, int] = {}  # trays by their number in the pass
        self._next = 0  # number in the pass of the first that no segment has needed yet
        self._index = -1  # of the batch that is handed out
        self._arrays = Arrays()  # of its tray
        self._changed = threading.Condition()

    # -- the thread that receives -----------------------------------------------------

    def has_room(self, *segments: int) -> bool:
        """Whether there are trays for the rows of these segments."""
        last = max(self._places.steps(number)[1] for number in segments)
        return last // self._layout.batches - self._next < self._trays.free

    def wait(self, segment: int, seconds: float) -> bool:
        """Wait until there are, at most so long."""
        with self._changed:
            return self._changed.wait_for(lambda: self.has_room(segment), seconds)

    def placing(self, head: SegmentHead) -> Placing | None:
        """Where rows go as they come; None when a chunk ends within a row.

        Raises:
            IntegrityError: the segment has other rows or columns than the lease.
        """
        parts = self._parts(head)
        ends = list(accumulate(head.chunks, initial=0))
        if not all(_is_between_rows(end, part) for end in ends for part in parts):
            return None
        return self._placing(head, parts)

    def place(self, segment: Segment) -> None:
        """Put a segment that came whole in its places; errors as `placing`."""
        placing = self._placing(segment.head, self._parts(segment.head))
        placing.put(0, np.frombuffer(segment.body, dtype=np.uint8))

    def _parts(self, head: SegmentHead) -> list[_Part]:
        if head.rows != self._segment_rows[head.segment]:
            raise IntegrityError("a segment is not the one that the lease manifest names")
        columns = self._layout.columns
        if [size for _, size in head.parts] != [head.rows * column.width for column in columns]:
            raise IntegrityError("a segment has other columns than the lease manifest")
        found = zip(head.parts, self._trays.rows, strict=True)
        return [_Part(offset, size, rows) for (offset, size), rows in found if size]

    def _placing(self, head: SegmentHead, parts: list[_Part]) -> Placing:
        first, last = self._places.steps(head.segment)
        layout = self._layout
        low, high = first // layout.batches, last // layout.batches
        while self._next <= high:
            self._filled[self._next] = self._trays.take()
            self._next += 1
        # Those that the consumer has left have no row of this segment.
        known = [self._filled.get(n, _LEFT) for n in range(low, high + 1)]
        trays = np.array(known, dtype=np.int64)
        batches = trays[:, None] * layout.rows + np.arange(layout.batches) * layout.batch_rows
        begins = batches.reshape(-1)[first - low * layout.batches :][: last - first + 1]
        places = np.empty(head.rows, dtype=np.int64)
        order = window_order(self._key, head.segment, head.rows)
        places[order] = self._places.of(head.segment, begins)
        assert places.min(initial=0) >= NOWHERE, "no row goes where nobody looks any more"
        return Placing(parts, places)

    # -- the consumer -----------------------------------------------------------------

    def steps(self, opens: Iterator[tuple[int, int]]) -> Iterator[Step]:
        """Every batch as a step; `opens` says which step needs which segment first."""
        pending = next(opens, None)
        for index in range(self._places.batches):
            needed = []
            while pending is not None and pending[0] == index:
                needed.append(pending[1])
                pending = next(opens, None)
            yield Step(self._places.position(index + 1), (), tuple(needed), ())

    def begin(self) -> None:
        """The next batch is asked for: let go of the tray that has no more, if it has no more."""
        self._index += 1
        number, within = divmod(self._index, self._layout.batches)
        if not within:
            self._arrays = Arrays()
            self._filled.pop(number - 1, None)  # not before: its last batches may lack rows yet
            with self._changed:
                self._changed.notify()

    def batch(self) -> Arrays:
        """Return the batch that was begun; all its segments were received."""
        number, within = divmod(self._index, self._layout.batches)
        if not within:
            self._arrays = self._trays.hand_out(self._filled[number])
        first, rows = within * self._layout.batch_rows, self._layout.batch_rows
        if self._index == self._places.batches - 1:
            rows = self._repeat(first)
        batch = {name: array[first : first + rows] for name, array in self._arrays.items()}
        if self._trays.kept > KEPT_MAX:
            return {name: array.copy() for name, array in batch.items()}
        return batch

    def _repeat(self, first: int) -> int:
        """Fill the last batch up with its last row; how many rows it has."""
        rows, size = self._places.last_rows()
        for array in self._arrays.values():
            array[first + rows : first + size] = array[first + rows - 1]
        return size

    def keep(self) -> None:
        """The pass is over: its trays are for the next."""
        self._arrays = Arrays()
        self._memory.keep(self._trays)


def _is_between_rows(at: int, part: _Part) -> bool:
    inside = part.offset < at < part.offset + part.size
    return not inside or (at - part.offset) % part.target.itemsize == 0
