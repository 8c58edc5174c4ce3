"""Control's side of all data workers: it answers their intents and hears their reports.

An intent is answered after its event is durable (record before release); everything else a
worker says is recorded as it comes. A worker that is gone takes its leases with it: what it
did not confirm stays charged as intended, which over-states and never under-states.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from gateway.delivery.link import Closed, WorkerLink
from gateway.delivery.spec import LeaseSpec
from gateway.domain.events import EventKind
from gateway.domain.lease import Grant, Lease
from gateway.errors import (
    Conflict,
    DatasetSuspended,
    GatewayError,
    LeaseExpired,
    LeaseRevoked,
    LimitExceeded,
    NotAuthenticated,
    NotFound,
    PlanChanged,
    StreamBroken,
    TenantSuspended,
    Unavailable,
)
from gateway.process.channel import AsyncChannel
from gateway.services.granted import granted
from gateway.services.house import House
from gateway.services.limits import require_budget
from gateway.wire.leases import LOST

_SLACK_SECONDS = 1.0  # for a worker to say that time is up
_log = logging.getLogger("gateway.workers")
_REASONS: dict[str, Callable[[], GatewayError]] = {
    "revoked": lambda: LeaseRevoked("the owner revoked the grant of this stream"),
    "token-revoked": lambda: LeaseRevoked("the token of this stream was revoked"),
    "erased": lambda: LeaseRevoked("the owner erased what this stream reads"),
    "plan-changed": lambda: PlanChanged("the rules now allow another plan"),
    "dataset-suspended": lambda: DatasetSuspended(
        "the dataset is suspended by its owner or an operator"
    ),
    "tenant-suspended": lambda: TenantSuspended("the tenant of this stream is suspended"),
    "expired": lambda: LeaseExpired("the lease ran out"),
    "replaced": lambda: Conflict(
        "a newer lease of the same run and rank replaced this one",
        advice="if both shall stream, give each a rank of its own, or a run",
    ),
    "run-finished": lambda: LeaseExpired("the run of this stream is finished"),
    "returned": lambda: LeaseExpired("the lease was handed back"),
    "refused": lambda: StreamBroken("the stored bytes are not authentic"),
    "limit": lambda: LimitExceeded("the budget of the grant is used up"),
    "stopping": lambda: LeaseExpired("the gateway is stopping"),
}


class Door(TypedDict):
    """Where clients reach a data worker: fields of a LeaseView."""

    data_url: str
    ring: str | None  # path of its Unix socket


@dataclass(slots=True)
class Workers:
    """All links; implements delivery's Keeper over the House."""

    house: House
    judge_again: Callable[[House, Lease], int]  # stream.py: PolicyEpoch, or raises why not
    _links: dict[int, WorkerLink] = field(default_factory=dict)
    _doors: dict[int, Door] = field(default_factory=dict)
    _held: dict[str, int] = field(default_factory=dict)  # lease -> worker
    _chains: dict[str, tuple[str, ...]] = field(default_factory=dict)  # lease -> its tokens

    @property
    def count(self) -> int:
        """How many workers are alive."""
        return sum(link.is_alive for link in self._links.values())

    async def attach(self, worker: int, channel: AsyncChannel, door: Door) -> None:
        """Use a (new) worker process under this number."""
        self._links[worker] = WorkerLink(channel, worker, self)
        self._doors[worker] = door

    def choose(self) -> int:
        """The living worker with the fewest leases, one that has started if there is any.

        Raises:
            Unavailable: there is none.
        """
        alive = [n for n, link in self._links.items() if link.is_alive]
        if not alive:
            raise Unavailable("no data worker is running", advice="try again in a few seconds")
        held = list(self._held.values())
        return min(alive, key=lambda n: (not self._links[n].has_spoken, held.count(n), n))

    def door_of(self, worker: int) -> Door:
        """Where the worker is reached."""
        return self._doors[worker]

    async def open(self, worker: int, spec: LeaseSpec) -> None:
        """Hand a lease to its worker."""
        try:
            await self._links[worker].open(spec)
        except GatewayError as error:
            self._record_end(spec.lease, error.code)
            raise
        self._held[spec.lease] = worker

    async def bind(self, lease_id: str, chain: tuple[str, ...]) -> None:
        """A lease ends with the token that holds it open, and with those it was exchanged for.

        Raises:
            NotAuthenticated: one of them was revoked meanwhile; the lease is closed.
        """
        kept = {lease: tokens for lease, tokens in self._chains.items() if lease in self._held}
        self._chains = {**kept, lease_id: chain}
        if any(map(self.house.catalog.is_token_revoked, chain)):
            await self.close(lease_id, "token-revoked")
            raise NotAuthenticated("this token was revoked", advice="ask for a new one")

    def opened_with(self, jti: str) -> list[str]:
        """Open leases that this token holds open, or one that was had for it."""
        return [lease for lease in self._held if jti in self._chains.get(lease, ())]

    async def renew(self, lease: Lease, expires_at: int) -> None:
        """Prolong a lease on its worker."""
        link = self._links[lease.worker]
        await link.renew(lease.id, expires_at, self.house.catalog.policy_epoch)

    async def ticket(self, lease: Lease, digest: str, until: float) -> None:
        """Let its worker serve the lease whole to whoever has the ticket, once."""
        now = self.house.now()
        await self._links[lease.worker].ticket(lease.id, digest, now, until)

    async def close(self, lease_id: str, reason: str) -> Closed | None:
        """Stop a lease on its worker and record its end; None when it is not open."""
        worker = self._held.pop(lease_id, None)
        if worker is None:
            return None
        closed = await self._links[worker].close(lease_id, _REASONS[reason]())
        self._record_end(lease_id, reason)
        return closed

    def _record_end(self, lease_id: str, reason: str) -> None:
        lease = self.house.catalog.lease(lease_id)
        if lease.closed is None:
            grant = self.house.catalog.grant(lease.grant)
            facts = {"lease": lease_id, "reason_code": reason}
            self.house.record(granted(EventKind.LeaseClosed, grant, facts))

    # what a worker asks and reports (delivery.link.Keeper)

    async def intent(
        self, lease: str, first: int, last: int, rows: int, size: int
    ) -> Sequence[str]:
        """Charge and record segments that will be released; answered when durable."""
        found = self._open_lease(lease)
        grant = self.house.catalog.grant(found.grant)
        self._require_alive(found, grant)
        if not self.house.catalog.was_delivered(lease, first, last):
            require_budget(self.house, grant, rows, size)
        facts = {
            "lease": lease,
            "grant": grant.id,
            "first": first,
            "last": last,
            "rows": rows,
            "bytes": size,
        }
        index = await self.house.recorded(granted(EventKind.SegmentIntent, grant, facts))
        return [f"{self.house.node}:{index}"] * (last - first + 1)

    def _open_lease(self, lease: str) -> Lease:
        found = self.house.catalog.lease(lease)
        if found.closed is not None or lease not in self._held:
            raise LeaseExpired("this lease is closed")
        return found

    def _require_alive(self, lease: Lease, grant: Grant) -> None:
        now = self.house.now()
        chain = self.house.lineage_of(grant)
        if any(link.revoked for link in chain):
            raise LeaseRevoked("the owner revoked the grant of this stream")
        if min(lease.expires_at, *(link.expires_at for link in chain)) <= now:
            raise LeaseExpired("the lease or its grant ran out")
        if lease.policy_epoch != self.house.catalog.policy_epoch:
            self.judge_again(self.house, lease)

    async def confirm(self, lease: str, segments: Sequence[int], rows: int, size: int) -> None:
        """Record segments handed to the kernel whole."""
        facts = {"lease": lease, "segments": list(segments), "rows": rows, "bytes": size}
        self.house.record(granted(EventKind.SegmentsConfirmed, self._grant_of(lease), facts))

    async def acknowledge(self, lease: str, segments: int, rows: int) -> None:
        """Record what the client says it verified."""
        facts = {"lease": lease, "upto": segments, "rows": rows}
        self.house.record(granted(EventKind.SegmentsAcknowledged, self._grant_of(lease), facts))

    async def rejudge(self, lease: str) -> int:
        """The PolicyEpoch changed: judge the lease again, or raise why it ends."""
        found = self._open_lease(lease)
        self._require_alive(found, self.house.catalog.grant(found.grant))
        try:
            epoch = self.judge_again(self.house, found)
        except GatewayError as error:
            reason = error.code if error.code in _REASONS else "plan-changed"
            self._held.pop(lease, None)
            self._record_end(lease, reason)
            raise
        facts = {"lease": lease, "expires_at": found.expires_at, "policy_epoch": epoch}
        grant = self.house.catalog.grant(found.grant)
        await self.house.recorded(granted(EventKind.LeaseRenewed, grant, facts))
        return epoch

    async def refused(self, lease: str, segment: int, error: str) -> None:
        """Record that stored bytes were not authentic; the lease ends."""
        grant = self._grant_of(lease)
        facts = {"lease": lease, "segment": segment, "error": error}
        await self.house.recorded(granted(EventKind.StreamRefused, grant, facts))
        _log.error("stored bytes refused", extra={"lease": lease, "segment": segment})

    async def gone(self, worker: int) -> None:
        """A worker died: its leases are over; clients open new ones and resume."""
        lost = [lease for lease, at in self._held.items() if at == worker]
        for lease in lost:
            del self._held[lease]
            self._record_end(lease, LOST)
        if lost:
            _log.warning("a data worker is gone", extra={"worker": worker, "leases": len(lost)})

    async def close_expired(self) -> None:
        """End leases whose time is up; their workers refuse them already."""
        now = self.house.now()
        over = [i for i in self._held if self.house.catalog.lease(i).expires_at <= now]
        await asyncio.gather(*(self.close(lease, "expired") for lease in over))

    async def drain(self, seconds: float) -> None:
        """The gateway will stop: every worker finishes what it is sending, and begins no more."""
        draining = asyncio.gather(*(link.drain(seconds) for link in self._links.values()))
        try:
            unfinished = sum(await asyncio.wait_for(draining, seconds + _SLACK_SECONDS))
        except TimeoutError:
            _log.warning("a data worker does not answer")
        else:
            if unfinished:
                _log.warning("segments are cut by the stop", extra={"segments": unfinished})

    async def stop(self) -> None:
        """Close every lease (the gateway stops) and let go of the workers."""
        await asyncio.gather(*(self.close(lease, "stopping") for lease in list(self._held)))
        for link in self._links.values():
            await link.stop()

    def _grant_of(self, lease: str) -> Grant:
        try:
            return self.house.catalog.grant(self.house.catalog.lease(lease).grant)
        except NotFound as cause:
            raise LeaseExpired("no such lease") from cause
