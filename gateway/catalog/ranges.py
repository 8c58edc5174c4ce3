"""A set of segment numbers, kept as disjoint ranges: a billion segments read in order is one."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field


@dataclass(slots=True)
class Ranges:
    """Disjoint, not adjacent, ascending [low, high] pairs, both ends inside."""

    lows: list[int] = field(default_factory=list)
    highs: list[int] = field(default_factory=list)
    of: int = 0  # how many numbers there are in all, from 0 on

    def add(self, number: int) -> None:
        """Put one number in."""
        if self.covers(number, number):
            return
        left = bisect_left(self.highs, number - 1)  # the first range that could touch
        right = bisect_right(self.lows, number + 1)  # behind the last one that could
        low = min([number, *self.lows[left:right]])
        high = max([number, *self.highs[left:right]])
        self.lows[left:right] = [low]
        self.highs[left:right] = [high]

    def covers(self, first: int, last: int) -> bool:
        """Whether every number from `first` to `last` is in."""
        at = bisect_right(self.lows, first) - 1
        return at >= 0 and self.highs[at] >= last
