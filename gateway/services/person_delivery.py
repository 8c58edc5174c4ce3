"""What a Grant's recipient had of one person: delivered, perhaps, filtered out, never.

Pages are delivered by block, so for a direct stream the answer is exact: its secret order is
computed again, and the segments with the person's blocks are held against those that were
handed over. A view counts in rows that its filter left, and its frames are gone with it: it is
exact when all of it was handed over or none, else the answer is `possibly-delivered` (what would
be needed, and why it is not kept: docs/reference/questions.md). Where two things hold, the
stronger one is said: history may over-state, never under-state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from gateway.catalog.ranges import Ranges
from gateway.catalog.records import Delivery
from gateway.domain.access import Plan, digest_of
from gateway.domain.layout import width_of
from gateway.domain.lease import Grant, OrderSpec
from gateway.domain.manifest import Manifest, Shard
from gateway.domain.order import lay_out
from gateway.services.person_index import Rows

BLOCKS_ORDERED_MAX = 20_000_000  # over all orders of one question: about half a minute
_Order = tuple[int, int, bool, int, int]  # seed, epoch, shuffle, lanes, window


class Outcome(IntEnum):
    """The weaker first."""

    NOT_READ = 0
    FILTERED = 1
    UNKNOWN = 2
    POSSIBLY = 3
    DELIVERED = 4

    @property
    def word(self) -> str:
        """As an answer says it."""
        said = "possibly-delivered" if self is Outcome.POSSIBLY else self.name.lower()
        return said.replace("_", "-")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Verdict:
    """What is known, and from what."""

    outcome: Outcome
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One Grant and all that happened under it."""

    grant: Grant
    deliveries: Sequence[Delivery]
    keys_of: frozenset[str]  # shards whose keys left under it
    order_key: Callable[[OrderSpec], bytes]

    @property
    def plan(self) -> Plan:
        """Of the Grant."""
        return self.grant.plan


@dataclass(slots=True, kw_only=True)
class Version:
    """One version and where the person is in it."""

    manifest: Manifest
    rows: Rows
    passes: dict[str, bool] = field(default_factory=dict)  # `rows_key` -> some row passes
    budget: int = BLOCKS_ORDERED_MAX
    _segments: dict[tuple[bytes, _Order], frozenset[int]] = field(default_factory=dict)

    def held(self, plan: Plan) -> list[Shard]:
        """Shards of the Plan's split that hold rows of the person."""
        return [s for s in self.manifest.shards_of(plan.split) if s.id in self.rows.blocks]

    def verdict(self, use: Use) -> Verdict:
        """The strongest thing that can be said."""
        shards = self.manifest.shards_of(use.plan.split)
        if not use.deliveries and not use.keys_of:
            return Verdict(outcome=Outcome.NOT_READ, because="nothing-read")
        found = [Verdict(outcome=Outcome.NOT_READ, because="not-in-these-rows")]
        if any(shard.id in self.rows.unknown for shard in shards):
            found.append(Verdict(outcome=Outcome.UNKNOWN, because="not-indexed"))
        held = self.held(use.plan)
        if held:
            found.append(self._of_keys(use, held))
        if held and use.deliveries:
            found.append(self._of_streams(use))
        return max(found)

    def _of_keys(self, use: Use, held: list[Shard]) -> Verdict:
        if use.keys_of & {shard.id for shard in held}:
            return Verdict(outcome=Outcome.DELIVERED, because="keys")
        return Verdict(outcome=Outcome.NOT_READ, because="nothing-read")

    def _of_streams(self, use: Use) -> Verdict:
        if use.plan.row_filter is not None:
            passes = self.passes.get(rows_key(use.plan))
            if passes is None:
                return Verdict(outcome=Outcome.POSSIBLY, because="filter-not-read")
            if not passes:
                return Verdict(outcome=Outcome.FILTERED, because="row-filter")
        direct = [self._direct(use, d) for d in use.deliveries if not d.view]
        return max([*direct, *self._views(use)], default=_NOT_REACHED)

    def _direct(self, use: Use, delivery: Delivery) -> Verdict:
        segments = self._holding(use, delivery.order)
        if segments is None:
            return Verdict(outcome=Outcome.POSSIBLY, because="too-many-orders")
        if any(first <= n <= last for n in segments for first, last in delivery.segments):
            return Verdict(outcome=Outcome.DELIVERED, because="stream")
        if segments & delivery.pending:
            return Verdict(outcome=Outcome.POSSIBLY, because="in-flight")
        return _NOT_REACHED

    def _holding(self, use: Use, order: OrderSpec) -> frozenset[int] | None:
        """Segments of an order with blocks that hold the person; None: too much to compute."""
        key = use.order_key(order)
        place = (key, _place(order))
        if place not in self._segments:
            blocks, mine, at = [], set[int](), 0
            for shard in self.manifest.shards_of(use.plan.split):
                count = -(-shard.rows // shard.block_rows)
                blocks += [shard.block_rows] * (count - 1)
                blocks.append(shard.rows - (count - 1) * shard.block_rows)
                mine |= {at + block for block in self.rows.blocks.get(shard.id, ())}
                at += count
            if at > self.budget:
                return None
            self.budget -= at
            columns = (self.manifest.column(c.field_id) for c in use.plan.columns)
            width = sum(width_of(column.type) for column in columns)
            segments = lay_out(key, order, blocks, [rows * width for rows in blocks])
            self._segments[place] = frozenset(
                segment.number for segment in segments if not mine.isdisjoint(segment.blocks)
            )
        return self._segments[place]

    def _views(self, use: Use) -> list[Verdict]:
        """By order, over all ranks: together they have the whole of it or a part."""
        orders: dict[_Order, list[Delivery]] = {}
        for delivery in use.deliveries:
            if delivery.view:
                orders.setdefault(_place(delivery.order), []).append(delivery)
        if orders and use.plan.action == "preview":
            return [self._preview(use)]
        return [_of_view(found) for found in orders.values()]

    def _preview(self, use: Use) -> Verdict:
        """Only the first rows left; without a filter it is known which they were."""
        possibly = Verdict(outcome=Outcome.POSSIBLY, because="preview")
        rows, most = 0, use.plan.limits.max_rows
        if use.plan.row_filter is not None or most is None:
            return possibly
        for shard in self.manifest.shards_of(use.plan.split):
            starts = (block * shard.block_rows for block in self.rows.blocks.get(shard.id, ()))
            if any(rows + start < most for start in starts):
                return possibly
            rows += shard.rows
        return _NOT_REACHED


def rows_key(plan: Plan) -> str:
    """Names a set of rows of a version."""
    return digest_of([plan.split, plan.row_filter])


def _place(order: OrderSpec) -> _Order:
    return order.seed, order.epoch, order.shuffle, order.lanes, order.window_blocks


def _of_view(deliveries: list[Delivery]) -> Verdict:
    together = Ranges()
    for first, last in sorted(pair for d in deliveries for pair in d.segments):
        at = together.highs[-1] if together.highs else -1
        if first > at + 1:
            return Verdict(outcome=Outcome.POSSIBLY, because="part-of-view")
        together.lows, together.highs = [0], [max(at, last)]
    of = max(delivery.of for delivery in deliveries)
    if of and together.covers(0, of - 1):
        return Verdict(outcome=Outcome.DELIVERED, because="stream")
    return Verdict(outcome=Outcome.POSSIBLY, because="part-of-view")


_NOT_REACHED = Verdict(outcome=Outcome.NOT_READ, because="not-reached")
