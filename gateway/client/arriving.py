"""A segment whose rows are used while it arrives, in the slots of the ring (ring-v1.md §5).

For one column, and for a view, in stored order: then a chunk is some whole rows, and the consumer
can have them where they lie. The prefetching thread adds chunks, the consumer takes them in order.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gateway.client.slots import Bytes, Slots
from gateway.errors import GatewayError, IntegrityError
from gateway.wire.leases import LeaseColumn
from gateway.wire.segments import SegmentHead

KEPT_MAX = 3  # of the eight slots: what a consumer keeps beyond is copied for it


class Rows(Protocol):
    """Some rows, where they lie: an array of one column, or `frames.FrameRows` of a view."""

    def __len__(self) -> int: ...

    def __getitem__(self, span: slice, /) -> Any:
        """Some of them, without a copy."""
        ...

    def copy(self) -> Any:
        """The same rows in memory of their own."""
        ...


class Layout(Protocol):
    """How rows lie in the chunks of a segment."""

    def begin(self, head: SegmentHead) -> bool:
        """A fetch begins; whether every chunk of it is some whole rows."""
        ...

    def rows(self, content: Bytes) -> Rows:
        """Return the rows in the next bytes of the segment; IntegrityError if they are none."""
        ...


class ColumnLayout:
    """One column: value after value, then padding."""

    def __init__(self, column: LeaseColumn) -> None:
        """Its type and shape."""
        self._dtype, self._shape = np.dtype(column.dtype), column.shape
        self._width = self._dtype.itemsize * int(np.prod(column.shape, dtype=np.int64))
        self._left = 0  # bytes of values to come

    def begin(self, head: SegmentHead) -> bool:
        """See Layout."""
        self._left = left = head.rows * self._width
        for size in head.chunks:
            if not self._width or min(size, left) % self._width:
                return False
            left -= min(size, left)
        return left == 0

    def rows(self, content: Bytes) -> NDArray[Any]:
        """See Layout."""
        count = min(len(content), self._left) // self._width
        self._left -= count * self._width
        flat = content[: count * self._width].view(self._dtype)
        return flat.reshape(count, *self._shape)


class _Added(NamedTuple):
    rows: Rows
    slots: Slots | None
    taken: Callable[[], None] | None


@dataclass(frozen=True, slots=True)
class _Chunk:
    first: int  # its first row in the segment
    rows: Rows


class Arriving:
    """One segment between the thread that receives it and the consumer."""

    def __init__(
        self, name: str, layout: Layout, count: int, give_back: Callable[[bool], None]
    ) -> None:
        """Wait for `count` rows.

        Args:
            name: of the column, if it is one.
            layout: how they lie.
            count: of the rows.
            give_back: told whether we wait.
        """
        self.name, self.count, self._layout = name, count, layout
        self._give_back = give_back
        self._queue: queue.SimpleQueue[_Added | GatewayError] = queue.SimpleQueue()
        self._added = self._at = 0  # rows; the second counts in the fetch that runs
        self._current: _Chunk | None = None
        self._taken = 0
        self._absorbed: deque[_Chunk] = deque()
        self.is_awaited = False  # the consumer can do nothing else

    # -- the thread that receives -----------------------------------------------------

    def begin(self, head: SegmentHead) -> bool:
        """A fetch begins, perhaps again; whether every chunk of it holds whole rows."""
        self._at = 0
        return head.rows == self.count and self._layout.begin(head)

    def add(
        self,
        content: Bytes,
        slots: Slots | None = None,
        taken: Callable[[], None] | None = None,
    ) -> bool:
        """Take the next bytes of the segment; False if all their rows came before a cut.

        Args:
            content: the bytes.
            slots: where they lie, if they do.
            taken: called when the consumer has them, or nobody wants them.

        Raises:
            IntegrityError: they hold no rows, or more than are to come.
        """
        rows = self._layout.rows(content)
        if self._at + len(rows) > self.count:
            raise IntegrityError("a segment has more rows than its head says")
        known, self._at = self._added - self._at, self._at + len(rows)
        if self._at <= self._added:
            if slots is not None:
                slots.see()
            if taken is not None:
                taken()
            return False
        self._added = self._at
        self._queue.put(_Added(rows[known:], slots, taken))
        return True

    def fail(self, error: GatewayError) -> None:
        """Nothing more comes; the consumer gets `error` after what is there."""
        self._queue.put(error)

    @property
    def is_whole(self) -> bool:
        """Whether all its rows came."""
        return self._added == self.count

    # -- the consumer -----------------------------------------------------------------

    def pieces(self, start: int, count: int) -> Iterator[Any]:
        """Rows `start` to `start + count`, as they lie; waits for those that are to come.

        Not before those of the call before; raises what the segment failed with.
        """
        while count:
            chunk = self._chunk_with(start)
            piece = chunk.rows[start - chunk.first : start - chunk.first + count]
            start, count = start + len(piece), count - len(piece)
            yield piece

    def absorb(self) -> None:
        """Copy out all that is still to come, so that others can arrive."""
        while self._taken < self.count:
            chunk = self._next()
            self._absorbed.append(_Chunk(chunk.first, chunk.rows.copy()))

    def discard(self) -> None:
        """Nobody wants what is still to come."""
        while self._taken < self.count:
            self._next()

    def _chunk_with(self, row: int) -> _Chunk:
        chunk, self._current = self._current, None
        while chunk is None or row >= chunk.first + len(chunk.rows):
            chunk = None  # let go of it before the wait
            chunk = self._absorbed.popleft() if self._absorbed else self._next()
        self._current = chunk
        return chunk

    def _next(self) -> _Chunk:
        self._give_back(self._queue.empty())
        self.is_awaited = True
        found = self._queue.get()
        self.is_awaited = False
        if isinstance(found, GatewayError):
            self._queue.put(found)  # whoever asks again hears the same
            raise found
        rows, slots, taken = found
        if taken is not None:
            taken()
        if slots is not None:
            slots.see()
            if slots.kept > KEPT_MAX:
                rows = rows.copy()
        first, self._taken = self._taken, self._taken + len(rows)
        return _Chunk(first, rows)
