"""Where a stream stands: which rows of which segments make the next batch.

The prefetching thread and the consumer each walk the same way, so that the order in which
segments arrive is the order in which they are needed. Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from gateway.domain.order import Deal, GlobalOrder, Rows, Slice


@dataclass(slots=True)  # made anew for every batch: freezing takes thrice as long
class Take:
    """`count` rows of a segment, from its row `start` in the order of delivery."""

    segment: int
    start: int
    count: int


@dataclass(slots=True)  # made anew for every batch: freezing takes thrice as long
class Step:
    """One batch of this rank."""

    position: int  # global rows received by all ranks after it
    takes: tuple[Take, ...]
    opens: tuple[int, ...]  # segments needed from here on, in order
    closes: tuple[int, ...]  # segments not needed any more after it


class Walk:
    """The steps of one rank through one order."""

    def __init__(self, lanes: Sequence[Sequence[int]], deal: Deal) -> None:
        """`lanes`: rows of each segment, lane by lane (as in the lease manifest)."""
        self._deal = deal
        self._starts = [list(accumulate(rows, initial=0)) for rows in lanes]
        self._first = list(accumulate((len(rows) for rows in lanes), initial=0))
        self._lanes = [lane for lane, rows in enumerate(lanes) for _ in rows]  # of each segment
        self._ends = [end for starts in self._starts for end in starts[1:]]  # within its lane
        self.order = GlobalOrder([starts[-1] for starts in self._starts])

    def batches(self, position: int) -> int:
        """How many batches are left from global `position` on."""
        return self.order.batches(position, self._deal)

    def steps(self, position: int) -> Iterator[Step]:
        """Walk from global `position` to the end."""
        held: set[int] = set()
        before = self.order.taken(position)
        for _ in range(self.batches(position)):
            position = min(self.order.rows, position + self._deal.step_rows)
            after = self.order.taken(position)
            takes = tuple(self._takes(self.order.share(before, after, self._deal)))
            needed = dict.fromkeys(take.segment for take in takes)
            opens = tuple(number for number in needed if number not in held)
            held.update(opens)
            lanes, ends = self._lanes, self._ends
            over = tuple(sorted([n for n in held if after[lanes[n]] >= ends[n]]))
            held.difference_update(over)
            before = after
            yield Step(position, takes, opens, over)

    def needs(self, position: int) -> Iterator[int]:
        """Segments in the order in which `steps` opens them."""
        return (number for _, number in self.opens(position))

    def opens(self, position: int) -> Iterator[tuple[int, int]]:
        """The same, each after the number of the step (0 = the first) that opens it.

        By arithmetic where one rank has all lanes: walking every step would cost as much again
        as the consumer's own walk.
        """
        if self._deal.world > 1:
            steps = enumerate(self.steps(position))
            return ((index, number) for index, step in steps for number in step.opens)
        first, last = self.spans(position)
        numbers = np.flatnonzero(last >= first)
        first = first[numbers]
        order = np.lexsort((numbers, np.array(self._lanes)[numbers], first))
        return zip(first[order].tolist(), numbers[order].tolist(), strict=True)

    def spans(self, position: int) -> tuple[Rows, Rows]:
        """Of each segment the first and the last step from `position` on that takes rows of it.

        Of any rank; steps count from 0, and a segment of which none takes a row ends at -1.
        """
        step_rows, batches = self._deal.step_rows, self.batches(position)
        end = min(self.order.rows, position + batches * step_rows)
        lanes = np.array(self._lanes, dtype=np.int64)
        starts = [start for starts in self._starts for start in starts[:-1]]
        before, after = self.order.taken_at(np.array([position, end]))
        first = np.maximum(np.array(starts, dtype=np.int64), before[lanes])
        last = np.minimum(np.array(self._ends, dtype=np.int64), after[lanes]) - 1
        is_taken = first <= last
        found = np.zeros_like(first), np.full_like(last, -1)
        for steps, rows in zip(found, (first, last), strict=True):
            places = self.order.places(lanes[is_taken], rows[is_taken])
            steps[is_taken] = (places - position) // step_rows
        return found

    def span_of(self, segment: int) -> tuple[int, int, int]:
        """The lane of a segment, its first row in the lane, and the row after its last."""
        lane = self._lanes[segment]
        first = self._starts[lane][segment - self._first[lane]]
        return lane, first, self._ends[segment]

    def _takes(self, pieces: Iterable[Slice]) -> Iterator[Take]:
        for piece in pieces:
            starts = self._starts[piece.lane]
            at, left = piece.start, piece.count
            while left:
                index = bisect_right(starts, at) - 1
                count = min(left, starts[index + 1] - at)
                yield Take(self._first[piece.lane] + index, at - starts[index], count)
                at, left = at + count, left - count
