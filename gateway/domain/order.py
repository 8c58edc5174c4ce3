"""The order of rows: a pure function over blocks, the same on every side (order-v0.md).

Blocks are permuted by raw Philox words, dealt to lanes, cut into segments; the global order
takes one row of each lane in turn. Ranks share it out step by step, so that equally many
batches on every rank are always a prefix: one number is the whole state of a training run,
for any number of ranks. No clock, no generator state, no floating point.
"""

from __future__ import annotations

import hashlib
import hmac
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from gateway.domain.lease import SEGMENT_BLOCKS_MAX, SEGMENT_BYTES_MAX, OrderSpec
from gateway.errors import InvalidInput

Rows = NDArray[np.int64]
ORDER_KEY_BYTES = 32
_BLOCKS_LABEL = 0  # label of the block permutation; segment n shuffles under label n + 1


def permutation(key: bytes, label: int, count: int) -> Rows:
    """Return the permutation of `range(count)` that `key` (32 bytes) gives under `label`.

    Word i of Philox4x64-10 (key = bytes 0..16, counter words 1..3 = label, bytes 16..32)
    is the sort key of i; equal words keep their order.
    """
    if len(key) != ORDER_KEY_BYTES:
        raise InvalidInput("an order key has 32 bytes")
    words = np.frombuffer(key, dtype="<u8").astype(np.uint64)
    counter = np.array([0, label, words[2], words[3]], dtype=np.uint64)
    raw = np.random.Philox(key=words[:2], counter=counter).random_raw(count)
    return _ascending(raw)


def _ascending(words: NDArray[np.uint64]) -> Rows:
    """The stable order of the words: by the fast sort, which gives it where none are equal."""
    order = np.argsort(words)
    found = words[order]
    if (found[1:] == found[:-1]).any():
        order = np.argsort(words, kind="stable")
    return order.astype(np.int64, copy=False)


def window_key(order_key: bytes) -> bytes:
    """Return the key clients shuffle rows with; it says nothing about the block order."""
    return hmac.new(order_key, b"gateway order v0 window", hashlib.sha256).digest()


def order_id(order_key: bytes, spec: OrderSpec) -> str:
    """Return the public name of an order (16 hex digits); positions carry it.

    Lanes, window and whether it is shuffled are part of it: after so many rows of another such
    order, other rows have been received. Rank and world are not: a position is for any.
    """
    said = f"gateway order v0 id {int(spec.shuffle)} {spec.lanes} {spec.window_blocks}"
    return hmac.new(order_key, said.encode(), hashlib.sha256).hexdigest()[:16]


def window_order(key: bytes, segment: int, rows: int) -> Rows:
    """Return which row of segment `segment` comes first, which second, and so on."""
    return permutation(key, segment + 1, rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One window of one lane."""

    number: int  # lane by lane: lane 0 has 0, 1, …, then lane 1 goes on
    lane: int
    first_row: int  # of the segment within its lane
    rows: int
    bytes: int  # plaintext pages or frames
    blocks: tuple[int, ...]  # indices into the version's blocks


def lay_out(
    order_key: bytes, spec: OrderSpec, rows: Sequence[int], sizes: Sequence[int]
) -> tuple[Segment, ...]:
    """Permute the blocks, deal them to lanes, cut the lanes into segments.

    Args:
        order_key: 32 bytes; ignored when the spec does not shuffle.
        spec: shuffle, lanes, window_blocks.
        rows: rows of each block, in the version's order.
        sizes: plaintext bytes of each block over the planned columns.
    """
    count = len(rows)
    order = permutation(order_key, _BLOCKS_LABEL, count) if spec.shuffle else np.arange(count)
    found: list[Segment] = []
    for lane in range(spec.lanes):
        first_row = 0
        for blocks in _windows(order[lane :: spec.lanes].tolist(), spec.window_blocks, sizes):
            segment = Segment(
                number=len(found),
                lane=lane,
                first_row=first_row,
                rows=sum(rows[b] for b in blocks),
                bytes=sum(sizes[b] for b in blocks),
                blocks=blocks,
            )
            first_row += segment.rows
            found.append(segment)
    return tuple(found)


def _windows(
    blocks: list[int], window_blocks: int, sizes: Sequence[int]
) -> Iterator[tuple[int, ...]]:
    most = min(window_blocks, SEGMENT_BLOCKS_MAX)
    window: list[int] = []
    held = 0
    for block in blocks:
        if window and (len(window) == most or held + sizes[block] > SEGMENT_BYTES_MAX):
            yield tuple(window)
            window, held = [], 0
        window.append(block)
        held += sizes[block]
    if window:
        yield tuple(window)


@dataclass(slots=True)  # made anew for every batch: freezing takes thrice as long
class Slice:
    """`count` rows of one lane, from row `start` of the lane."""

    lane: int
    start: int
    count: int


class GlobalOrder:
    """Row i of every lane in turn, lane 0 first; a lane that is exhausted is passed over."""

    def __init__(self, lane_rows: Sequence[int]) -> None:
        """Prepare the positions at which lanes run out."""
        self.lane_rows = tuple(lane_rows)
        self.rows = sum(lane_rows)
        self._starts: list[int] = []  # global position from which `_active[i]` are left
        self._depths: list[int] = []  # rows taken from each active lane by then
        self._active: list[tuple[int, ...]] = []
        position = depth = 0
        while active := tuple(i for i, rows in enumerate(self.lane_rows) if rows > depth):
            self._starts.append(position)
            self._depths.append(depth)
            self._active.append(active)
            end = min(self.lane_rows[i] for i in active)
            position += (end - depth) * len(active)
            depth = end

    def taken(self, position: int) -> list[int]:
        """Return how many rows of each lane lie before global `position`."""
        if not 0 <= position <= self.rows:
            raise InvalidInput(f"position `{position}` is outside `{self.rows}` rows")
        if position == self.rows:
            return list(self.lane_rows)
        at = bisect_right(self._starts, position) - 1
        active = self._active[at]
        rounds, rest = divmod(position - self._starts[at], len(active))
        depth = self._depths[at] + rounds
        taken = [min(rows, depth) for rows in self.lane_rows]
        for lane in active[:rest]:
            taken[lane] += 1
        return taken

    def place(self, lane: int, row: int) -> int:
        """Return the global position of a row of a lane: the inverse of `taken`."""
        before = sum(min(rows, row) for rows in self.lane_rows)
        return before + sum(rows > row for rows in self.lane_rows[:lane])

    @cached_property
    def _turns(self) -> Rows:
        """When it is each lane's turn in a round, from each of `_starts` on; never: `rows`."""
        found = np.full((len(self._active), len(self.lane_rows)), self.rows, dtype=np.int64)
        for at, active in enumerate(self._active):
            found[at, list(active)] = np.arange(len(active))
        return found

    def taken_at(self, positions: Rows) -> Rows:
        """Return `taken` of many positions at once: an array of positions x lanes."""
        lane_rows = np.array(self.lane_rows, dtype=np.int64)
        if not self.rows:
            return np.zeros((len(positions), len(lane_rows)), dtype=np.int64)
        at = np.searchsorted(np.array(self._starts), positions, side="right") - 1
        counts = np.array([len(active) for active in self._active])
        rounds, rest = np.divmod(positions - np.array(self._starts)[at], counts[at])
        depth = np.array(self._depths)[at] + rounds
        whole = np.minimum(lane_rows, depth[:, None])
        found: Rows = whole + (self._turns[at] < rest[:, None])
        return found

    def places(self, lanes: Rows, rows: Rows) -> Rows:
        """Return `place` of many rows at once: row `rows[i]` of lane `lanes[i]`, which has it."""
        at = np.searchsorted(np.array(self._depths, dtype=np.int64), rows, side="right") - 1
        counts = np.array([len(active) for active in self._active], dtype=np.int64)
        depths, starts = (np.array(x, dtype=np.int64) for x in (self._depths, self._starts))
        found: Rows = starts[at] + (rows - depths[at]) * counts[at] + self._turns[at, lanes]
        return found

    def batches(self, start: int, deal: Deal) -> int:
        """Return how many batches every rank yields from global position `start` on."""
        deal.lanes(len(self.lane_rows))  # refuses a world that does not fit
        left = self.rows - start
        whole, rest = divmod(left, deal.step_rows)
        if rest and deal.uneven == "error":
            raise InvalidInput(
                f"`{left}` rows do not divide into steps of `{deal.step_rows}`",
                advice="use uneven=`drop` or `pad`, or another batch size",
            )
        return whole + (1 if rest and deal.uneven == "pad" else 0)

    def batch(self, position: int, deal: Deal) -> list[Slice]:
        """Return what `deal.rank` gets of the step at `position`, grouped by lane.

        The last step of uneven=`pad` may be shorter; it has the same size on every rank, and
        ranks that would get less repeat the last row of the step (at most world - 1 repeats).
        """
        if not 0 <= position < self.rows:
            raise InvalidInput(f"no batch begins at `{position}` of `{self.rows}` rows")
        end = min(position + deal.step_rows, self.rows)
        return self.share(self.taken(position), self.taken(end), deal)

    def share(self, before: Sequence[int], after: Sequence[int], deal: Deal) -> list[Slice]:
        """Return what `deal.rank` gets of the step between two results of `taken`."""
        size = -(-(sum(after) - sum(before)) // deal.world)
        first, last = deal.rank * size, (deal.rank + 1) * size
        found: list[Slice] = []
        at = 0
        for lane in deal.lanes(len(self.lane_rows)):
            count = after[lane] - before[lane]
            low, high = max(first, at), min(last, at + count)
            if low < high:
                found.append(Slice(lane, before[lane] + low - at, high - low))
            if count:
                final = (lane, after[lane] - 1)
            at += count
        repeats = last - max(first, at)
        return found + [Slice(*final, 1)] * max(0, repeats)

    def shares(self, taken: Rows, lane: int, deal: Deal) -> tuple[Rows, Rows, Rows]:
        """Return what `deal.rank` gets of one lane in each of many steps, repeats left out.

        Args:
            taken: by `taken_at`: before the first step, and after each.
            lane: which one.
            deal: whose share.

        Returns:
            For each step: its first row in the lane, how many, and where in the batch they go.
        """
        lanes = list(deal.lanes(len(self.lane_rows)))
        counts = np.diff(taken, axis=0)
        sizes = -(-counts.sum(axis=1) // deal.world)
        first = deal.rank * sizes
        at = counts[:, lanes[: lanes.index(lane)]].sum(axis=1)
        low = np.maximum(first, at)
        high = np.minimum(first + sizes, at + counts[:, lane])
        return taken[:-1, lane] + low - at, np.maximum(high - low, 0), low - first


@dataclass(frozen=True, slots=True, kw_only=True)
class Deal:
    """How a step of world x batch_rows rows is shared out."""

    rank: int = 0
    world: int = 1
    batch_rows: int
    uneven: str = "pad"  # `drop` | `pad` | `error`

    def __post_init__(self) -> None:
        if self.batch_rows < 1:
            raise InvalidInput("a batch has at least 1 row")
        if not 0 <= self.rank < self.world:
            raise InvalidInput(f"rank `{self.rank}` is not within a world of `{self.world}`")
        if self.uneven not in ("drop", "pad", "error"):
            raise InvalidInput(f"`{self.uneven}` is not one of `drop`, `pad`, `error`")

    def within(self, rows: int) -> Deal:
        """The same for an order of so many rows: memory is got for no more than there are.

        One row more than all of them tells a step that is not whole from one that is.
        """
        return replace(self, batch_rows=min(self.batch_rows, -(-rows // self.world) + 1))

    @property
    def step_rows(self) -> int:
        """Rows that all ranks together take in one step."""
        return self.world * self.batch_rows

    def lanes(self, count: int) -> Sequence[int]:
        """Return the lanes in the order in which ranks share out their rows.

        When the world divides the lanes, rank r has exactly lanes r, r + world, …; else
        neighbouring ranks share a lane.
        """
        if count < self.world:
            raise InvalidInput(
                f"a world of `{self.world}` ranks does not fit `{count}` lanes",
                advice=f"use at most {count} ranks, or start with more lanes",
            )
        return _dealt(self.world, count)


@cache
def _dealt(world: int, count: int) -> Sequence[int]:
    lanes = range(count)
    return lanes if count % world else sorted(lanes, key=lambda i: (i % world, i))
