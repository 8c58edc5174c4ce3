"""A segment whose rows are used while it arrives, in the slots of the ring (ring-v1.md §5).

For one column, and for a view, in stored order: then a chunk is some whole rows, and the consumer
can have them where they lie. It draws them itself, so that no other thread stands between it and
the worker; while it is busy, a thread copies rows out for it (drawing.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gateway.client.drawing import Turns
from gateway.client.slots import Bytes, Slots
from gateway.errors import GatewayError, IntegrityError
from gateway.wire.leases import LeaseColumn
from gateway.wire.segments import SegmentHead


class Rows(Protocol):
    """Some rows, where they lie: an array of one column, or `frames.FrameRows` of a view."""

    def __len__(self) -> int:
        """How many."""
        ...

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


class Came(NamedTuple):
    """The next bytes of a segment; where they lie, if it is in slots."""

    content: Bytes
    slots: Slots | None


@dataclass(frozen=True, slots=True)
class _Chunk:
    first: int  # its first row in the segment
    rows: Rows
    size: int  # of its bytes


class Arriving:
    """One segment on its way to the consumer, which draws it chunk by chunk."""

    def __init__(self, name: str, layout: Layout, count: int, turns: Turns) -> None:
        """`count` rows will come; `source` is set before the first is drawn.

        Args:
            name: of the column, if it is one.
            layout: how they lie.
            count: of the rows.
            turns: whose it is to draw.
        """
        self.name, self.count, self._layout, self._turns = name, count, layout, turns
        self.source: Iterator[Came] = iter(())
        self._added = self._at = 0  # rows; the second counts in the fetch that runs
        self._current: _Chunk | None = None
        self._absorbed: deque[_Chunk] = deque()
        self._failure: GatewayError | None = None  # met while drawing ahead
        self._lies = True  # whole rows in each chunk, as far as is known

    def begin(self, head: SegmentHead) -> bool:
        """A fetch begins, perhaps again; whether every chunk of it holds whole rows."""
        self._at = 0
        self._lies = head.rows == self.count and self._layout.begin(head)
        return self._lies

    @property
    def is_whole(self) -> bool:
        """Whether all its rows came."""
        return self._added == self.count

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
        with self._turns:
            while (chunk := self._draw(copies=True)) is not None:
                self._keep(chunk)

    def draw_ahead(self) -> bool:
        """Copy out the next chunk in another's turn; False when there was none.

        What has to be copied as a whole is left to the consumer: it may be more than fits.
        """
        try:
            chunk = self._draw(copies=True, is_ahead=True)
        except GatewayError as error:
            self._failure = error  # the consumer gets it after what is there
            return False
        if chunk is not None:
            self._keep(chunk)
        return chunk is not None

    def finish(self) -> None:
        """Nobody wants what is still to come, but for the proof at its end."""
        with self._turns:
            while self._draw() is not None:
                pass

    def let_go(self) -> None:
        """The stream is over: the rows that were drawn last are the consumer's alone."""
        self._current = None

    def _keep(self, chunk: _Chunk) -> None:
        self._turns.keep(chunk.size)
        self._absorbed.append(chunk)

    def _chunk_with(self, row: int) -> _Chunk:
        chunk, self._current = self._current, None
        while chunk is None or row >= chunk.first + len(chunk.rows):
            chunk = None  # let go of it before the wait
            chunk = self._next()
            if chunk is None:
                raise IntegrityError("a segment has fewer rows than its head says")
        self._current = chunk
        return chunk

    def _next(self) -> _Chunk | None:
        """What was drawn ahead needs no turn: the other may wait for a gateway in its own."""
        if not self._absorbed:
            with self._turns:
                if not self._absorbed:
                    return self._draw()
        chunk = self._absorbed.popleft()  # nobody else takes any
        self._turns.take(chunk.size)
        return chunk

    def _draw(self, *, copies: bool = False, is_ahead: bool = False) -> _Chunk | None:
        """The next chunk with rows that did not come before a cut; None at the end."""
        if self._failure is not None:
            raise self._failure
        while self._lies or not is_ahead:
            came = next(self.source, None)
            if came is None:
                return None
            rows, slots, size = self._layout.rows(came.content), came.slots, len(came.content)
            del came
            if slots is not None:
                slots.see()
            begin, self._at = self._at, self._at + len(rows)
            if self._at > self.count:
                raise IntegrityError("a segment has more rows than its head says")
            if self._at > self._added:
                first, self._added = self._added, self._at
                rows = rows[first - begin :]
                if slots is not None and (copies or slots.is_kept_enough):
                    rows = rows.copy()
                return _Chunk(first, rows, size)
            del rows  # the slot with it
        return None
