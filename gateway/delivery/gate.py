"""The gate every chunk passes: is control alive, does the lease still hold, is it recorded?

The PolicyEpoch on the status page is compared before every chunk. When it moved, the lease is
judged again by control before another byte is opened. A watch does the same for streams that
wait for a slow client, and stops all of them when control falls silent.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

from gateway.delivery.leases import LeaseTable, OpenLease
from gateway.domain.order import Segment
from gateway.errors import GatewayError, LeaseExpired, LimitExceeded, Unavailable
from gateway.process.status_page import StatusReader

WATCH_SECONDS = 0.02
AHEAD_SEGMENTS = 4
AHEAD_SEGMENTS_MAX = 16  # for a reader that takes AHEAD_SEGMENTS within AHEAD_SECONDS
AHEAD_SECONDS = 0.05
CONFIRM_SEGMENTS = 64
CONFIRM_SECONDS = 0.1


class Control(Protocol):
    """What the gate asks and tells control (see control.py)."""

    async def intent(self, lease: str, first: int, last: int, rows: int, size: int) -> list[str]:
        """Return one receipt per segment once the intent is durable."""
        ...

    async def rejudge(self, lease: str) -> int:
        """Return the PolicyEpoch the lease holds for, or raise why it does not."""
        ...

    def confirm(self, lease: str, segments: list[int], rows: int, size: int) -> None:
        """Tell which segments were handed to the kernel whole."""
        ...

    def acknowledge(self, lease: str, segments: int, rows: int) -> None:
        """Tell how much the client says to have verified."""
        ...


class Gate:
    """Decides, chunk by chunk, whether a lease may go on."""

    def __init__(
        self,
        table: LeaseTable,
        control: Control,
        status: StatusReader,
        now: Callable[[], float],
    ) -> None:
        """Guard the leases of `table`; `now` gives Unix seconds."""
        self._table, self._control, self._status, self._now = table, control, status, now

    def holds(self, lease: OpenLease) -> bool:
        """Whether the next chunk may be opened right now; if not, `admit` says why or waits."""
        return (
            lease.stopped is None
            and lease.policy_epoch >= self._status.policy_epoch
            and self._now() < lease.expires_at
            and self._status.is_alive
        )

    async def admit(self, lease: OpenLease) -> None:
        """Return when the next chunk may be opened; raises why the stream ends."""
        while not self.holds(lease):
            if lease.stopped is not None:
                raise lease.stopped
            if not self._status.is_alive:
                raise Unavailable("the gateway's control is silent", advice="try again")
            if self._now() >= lease.expires_at:
                raise LeaseExpired("the lease ran out")
            if lease.policy_epoch < self._status.policy_epoch:
                await asyncio.shield(self._rejudge(lease))

    def _rejudge(self, lease: OpenLease) -> asyncio.Task[None]:
        """Start judging again, or join what runs already."""
        if lease.rejudging is None or lease.rejudging.done():
            lease.rejudging = asyncio.create_task(self._judge(lease))
        return lease.rejudging

    async def _judge(self, lease: OpenLease) -> None:
        try:
            lease.policy_epoch = await self._control.rejudge(lease.spec.lease)
        except GatewayError as reason:
            self._table.close(lease.spec.lease, reason)

    async def record(self, lease: OpenLease, segment: Segment) -> str:
        """Return the receipt of the segment's durable intent, asking for it when needed.

        A reader in sequence gets the next few recorded in the same commit, ahead of sending.
        """
        number = segment.number
        is_reading_on = number - 1 in lease.receipts and not lease.is_near_limit
        ahead = AHEAD_SEGMENTS if is_reading_on else 1
        while number not in lease.receipts:
            # One that is done is not joined: awaiting it would not yield, so that it would
            # never be forgotten, and its failure would be met here again and again.
            asked = lease.intents.get(number)
            joined = asked is not None and not asked.done()
            if asked is None or not joined:
                asked = self._ask(lease, number, ahead)
            try:
                await asyncio.shield(asked)
            except LimitExceeded:
                if ahead == 1 and not joined:
                    raise
                ahead = 1  # the budget may still hold this one alone
        self._run_ahead(lease, segment)
        return lease.receipts[number]

    def prepare(self, lease: OpenLease, number: int) -> None:
        """A client asked for a segment that waits its turn: record its intent meanwhile.

        For where a reader begins in a lane; one in sequence has its next few recorded anyway.
        """
        is_known = any(
            n in known for n in (number - 1, number) for known in (lease.receipts, lease.intents)
        )
        is_new = number < len(lease.segments) and not is_known
        if is_new and not lease.is_near_limit and self.holds(lease):
            self._ask(lease, number, 1)

    def _run_ahead(self, lease: OpenLease, segment: Segment) -> None:
        """Ask early enough: a commit takes as long as some segments, one of each lane in turn."""
        is_reading_on = segment.number - 1 in lease.receipts and not lease.is_near_limit
        if not is_reading_on or not self.holds(lease):  # rules may have changed meanwhile
            return
        order = lease.spec.order
        horizon = max(1, max(AHEAD_SEGMENTS, lease.ahead // 2) * order.world // order.lanes)
        for following in lease.segments[segment.number + 1 : segment.number + 1 + horizon]:
            number = following.number
            if following.lane != segment.lane:
                return
            if number not in lease.receipts and number not in lease.intents:
                self._ask(lease, number, self._pace(lease))
                return

    def _pace(self, lease: OpenLease) -> int:
        """How many to ask for: a fast reader's events would else cost as much as its bytes."""
        order, now = lease.spec.order, self._now()
        is_fast, lease.asked_at = now - lease.asked_at < AHEAD_SECONDS, now
        most = max(AHEAD_SEGMENTS, AHEAD_SEGMENTS_MAX * order.world // order.lanes)
        wanted = lease.ahead * 2 if is_fast else lease.ahead // 2
        lease.ahead = min(most, max(AHEAD_SEGMENTS, wanted))
        return lease.ahead

    def _ask(self, lease: OpenLease, first: int, count: int) -> asyncio.Task[None]:
        wanted = [lease.segments[first]]
        for segment in lease.segments[first + 1 : first + count]:
            known = segment.number in lease.receipts or segment.number in lease.intents
            if known or segment.lane != wanted[0].lane:
                break
            wanted.append(segment)
        task = asyncio.create_task(self._intend(lease, wanted))
        for segment in wanted:
            lease.intents[segment.number] = task
        task.add_done_callback(lambda _: self._forget(lease, wanted, task))
        return task

    @staticmethod
    def _forget(lease: OpenLease, wanted: list[Segment], task: asyncio.Task[None]) -> None:
        for segment in wanted:
            if lease.intents.get(segment.number) is task:
                del lease.intents[segment.number]
        if not task.cancelled():
            error = task.exception()  # whoever waits has it; nobody waits for what ran ahead
            lease.is_near_limit |= isinstance(error, LimitExceeded)

    async def _intend(self, lease: OpenLease, wanted: list[Segment]) -> None:
        receipts = await self._control.intent(
            lease.spec.lease,
            wanted[0].number,
            wanted[-1].number,
            sum(s.rows for s in wanted),
            sum(s.bytes for s in wanted),
        )
        for segment, receipt in zip(wanted, receipts, strict=True):
            lease.keep_receipt(segment.number, receipt)

    def sent(self, lease: OpenLease, segment: Segment) -> None:
        """Note that the kernel has a segment whole; control is told in batches."""
        lease.sent.append(segment.number)
        if len(lease.sent) >= CONFIRM_SEGMENTS:
            self.confirm(lease)

    def confirm(self, lease: OpenLease) -> None:
        """Tell control about what was sent and acknowledged since the last time."""
        if lease.has_news:
            lease.has_news = False
            self._control.acknowledge(lease.spec.lease, *lease.acknowledged)
        if lease.sent:
            sent = [lease.segments[n] for n in lease.sent]
            lease.sent = []
            self._control.confirm(
                lease.spec.lease,
                [s.number for s in sent],
                sum(s.rows for s in sent),
                sum(s.bytes for s in sent),
            )

    def _expire(self, lease: OpenLease) -> None:
        with contextlib.suppress(ConnectionError):
            self.confirm(lease)
        self._table.close(lease.spec.lease, LeaseExpired("the lease ran out"))  # its keys too

    async def watch(self) -> None:
        """Run for ever: stop streams that no chunk would stop, and send confirmations."""
        elapsed = 0.0
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            elapsed += WATCH_SECONDS
            for lease in self._table.all():
                if self._now() >= lease.expires_at:
                    self._expire(lease)
                elif not self._status.is_alive:
                    lease.drop_streams()
                elif lease.streams and lease.policy_epoch < self._status.policy_epoch:
                    self._rejudge(lease)
            if elapsed >= CONFIRM_SECONDS:
                elapsed = 0.0
                with contextlib.suppress(ConnectionError):
                    for lease in self._table.all():
                        self.confirm(lease)
