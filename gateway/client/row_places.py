"""Where the rows of a segment go: which batch of this rank has them, and where in it.

`Walk.steps` says the same batch by batch, as slices of segments; for many lanes and small
batches that costs more than the rows. Here it is reckoned for a whole segment at once.
"""

from __future__ import annotations

import numpy as np

from gateway.client.position import Walk
from gateway.domain.order import Deal, Rows

NOWHERE = -1  # another rank has the row, or it was received before


class RowPlaces:
    """Where the rows of one rank go, in batches that begin wherever the caller says."""

    def __init__(self, walk: Walk, deal: Deal, start: int) -> None:
        """Begin at global position `start`."""
        self._walk, self._deal, self._start = walk, deal, start
        self.batches = walk.batches(start)
        self.batch_rows = deal.batch_rows
        self._first, self._last = walk.spans(start)
        self._known = 0, np.zeros((0, 0), dtype=np.int64)  # a step, and what was taken from it on

    @property
    def steps_max(self) -> int:
        """The most steps that take rows of one segment."""
        return int((self._last - self._first).max(initial=0)) + 1

    def steps(self, segment: int) -> tuple[int, int]:
        """The first and the last step that takes rows of a segment, of whichever rank."""
        return int(self._first[segment]), int(self._last[segment])

    def position(self, batches: int) -> int:
        """The global position after so many batches."""
        return min(self._walk.order.rows, self._start + batches * self._deal.step_rows)

    def last_rows(self) -> tuple[int, int]:
        """How many rows of the last batch are rows, and how many it has with their repeats."""
        size, first, found = self._short()
        return min(max(1, found - first), size), size

    def of(self, segment: int, begins: Rows) -> Rows:
        """The place of each row of a segment, in the order of delivery; or NOWHERE.

        Args:
            segment: which one; some step takes rows of it.
            begins: where the batch of each of its `steps` begins.
        """
        lane, begin, end = self._walk.span_of(segment)
        low, high = self.steps(segment)
        rows, counts, at = self._walk.order.shares(self._taken(low, high), lane, self._deal)
        first, last = np.maximum(rows, begin), np.minimum(rows + counts, end)
        counts = np.maximum(last - first, 0)
        # Rows of the lane, one after the other, without those that are not ours.
        total = int(counts.sum())
        steps = np.repeat(np.arange(len(counts)), counts)
        if total == end - begin:
            return (begins + at - rows)[steps] + np.arange(begin, end)
        found = np.full(end - begin, NOWHERE, dtype=np.int64)
        ours = np.arange(total) + (first - (np.cumsum(counts) - counts))[steps]
        found[ours - begin] = ours + (begins + at - rows)[steps]
        if high == self.batches - 1:
            self._place_repeated(found, lane, end, int(begins[-1]))
        return found

    def _taken(self, low: int, high: int) -> Rows:
        """What was taken before each of these steps and after the last; lanes ask alike."""
        first, known = self._known
        if not first <= low <= high + 1 < first + len(known):
            steps = np.arange(low, high + 2, dtype=np.int64) * self._deal.step_rows
            positions = np.minimum(self._start + steps, self._walk.order.rows)
            first, known = self._known = low, self._walk.order.taken_at(positions)
        return known[low - first : high - first + 2]

    def _short(self) -> tuple[int, int, int]:
        """Of the last step: rows per rank, where our share of them begins, rows in all."""
        before = self.position(self.batches - 1)
        rows = self.position(self.batches) - before
        size = -(-rows // self._deal.world)
        return size, self._deal.rank * size, rows

    def _place_repeated(self, found: Rows, lane: int, end: int, place: int) -> None:
        """A rank for which the last step has no row left gets its last one."""
        _, first, rows = self._short()
        if first < rows:
            return
        before, after = self._taken(self.batches - 1, self.batches - 1)
        lanes = [n for n in self._deal.lanes(len(after)) if after[n] > before[n]]
        if lanes[-1] == lane and after[lane] == end:
            found[-1] = place
