"""Where a stream stands: which rows of which segments make the next batch.

The prefetching thread and the consumer each walk the same way, so that the order in which
segments arrive is the order in which they are needed. Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from gateway.domain.order import Deal, GlobalOrder, Slice


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
        """Segments in the order in which `steps` opens them.

        By arithmetic where one rank has all lanes: walking every step would cost as much again
        as the consumer's own walk.
        """
        if self._deal.world > 1:
            yield from (number for step in self.steps(position) for number in step.opens)
            return
        end = min(self.order.rows, position + self.batches(position) * self._deal.step_rows)
        before, after = self.order.taken(position), self.order.taken(end)
        found = []
        for number, (lane, last) in enumerate(zip(self._lanes, self._ends, strict=True)):
            first = self._starts[lane][number - self._first[lane]]
            first = max(first, before[lane])
            if first < min(last, after[lane]):
                place = self.order.place(lane, first)
                found.append(((place - position) // self._deal.step_rows, lane, number))
        yield from (number for _, _, number in sorted(found))

    def _takes(self, pieces: Iterable[Slice]) -> Iterator[Take]:
        for piece in pieces:
            starts = self._starts[piece.lane]
            at, left = piece.start, piece.count
            while left:
                index = bisect_right(starts, at) - 1
                count = min(left, starts[index + 1] - at)
                yield Take(self._first[piece.lane] + index, at - starts[index], count)
                at, left = at + count, left - count
