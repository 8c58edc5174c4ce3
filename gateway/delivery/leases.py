"""The leases a data worker holds: their keys, segments, receipts and running streams."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.crypto.segments import CounterWindow
from gateway.delivery.body import SegmentBody
from gateway.delivery.flight import Flight
from gateway.delivery.sources import Source
from gateway.delivery.spec import LeaseSpec
from gateway.domain.order import Segment
from gateway.errors import GatewayError, InvalidInput, LimitExceeded, NotAuthenticated, NotFound

TICKETS_MAX = 8  # of one lease, at a time
_RECEIPTS_MAX = 4096
_CLOSED_MAX = 4096


class Connection(Protocol):
    """What a lease needs to stop one of its streams (see guard.py)."""

    def abort(self) -> None:
        """Drop the connection and what the kernel does not have yet."""
        ...


@dataclass(slots=True, eq=False)
class Credentials:
    """What a request of a lease is checked with; outlives the lease for a while."""

    key: bytes = field(repr=False)
    boot: str
    counters: CounterWindow = field(default_factory=CounterWindow)
    reason: GatewayError | None = None  # why the lease is closed


@dataclass(slots=True, eq=False)
class OpenLease:
    """One lease on this worker."""

    spec: LeaseSpec
    source: Source
    segments: Sequence[Segment]
    policy_epoch: int
    expires_at: int
    receipts: OrderedDict[int, str] = field(default_factory=OrderedDict)
    intents: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    rejudging: asyncio.Task[None] | None = None
    streams: set[Connection] = field(default_factory=set)
    rings: set[Connection] = field(default_factory=set)  # of which some stream, the others wait
    sent: list[int] = field(default_factory=list)  # handed over, not yet reported
    begun: set[int] = field(default_factory=set)  # segments of which something may have been sent
    begun_rows: int = 0
    acknowledged: tuple[int, int] = (0, 0)  # segments, rows
    has_news: bool = False  # acknowledged more than control was told
    ahead: int = 4  # segments whose intents are asked for at once; see Gate
    asked_at: float = 0.0  # Unix seconds, the last time ahead of need
    was_read: bool = False  # over HTTP: it may come back before others come
    is_near_limit: bool = False  # a few segments at once were more than the grant had left
    refused: set[int] = field(default_factory=set)  # segments whose stored bytes are not authentic
    tickets: dict[str, float] = field(default_factory=dict)  # SHA-256 of each → its end
    stopped: GatewayError | None = None
    credentials: Credentials = field(init=False)

    def __post_init__(self) -> None:
        self.credentials = Credentials(key=self.spec.key, boot=self.spec.boot)

    def segment(self, number: int) -> Segment:
        """Return one segment; NotFound beyond the last."""
        if not 0 <= number < len(self.segments):
            raise NotFound(f"the lease has {len(self.segments)} segments")
        return self.segments[number]

    def begin(self, segment: Segment) -> None:
        """Note that a segment is about to be sent, perhaps again."""
        if segment.number not in self.begun:
            self.begun.add(segment.number)
            self.begun_rows += segment.rows

    def acknowledge(self, segments: int, rows: int) -> None:
        """Take what the client says to have verified in all; never less than before.

        Raises:
            InvalidInput: it is more than was sent: an attestation would say so for ever.
        """
        if segments > len(self.begun) or rows > self.begun_rows:
            raise InvalidInput("more is acknowledged than was sent under this lease")
        if segments > self.acknowledged[0] and rows >= self.acknowledged[1]:
            self.acknowledged = (segments, rows)
            self.has_news = True  # told with the next confirmation: it is cumulative

    def body(self, segment: Segment) -> SegmentBody:
        """Return a segment's bytes, still sealed."""
        final = segment.number == len(self.segments) - 1
        return SegmentBody(self.spec, segment, self.source, final=final)

    def add_ticket(self, digest: str, until: float, now: float) -> None:
        """Take note of a ticket; LimitExceeded when too many wait to be used."""
        self.tickets = {known: end for known, end in self.tickets.items() if end > now}
        if len(self.tickets) >= TICKETS_MAX:
            raise LimitExceeded(
                "too many addresses of this stream wait to be used",
                advice="use one of them, or wait a minute",
                limit="stream_addresses",
            )
        self.tickets[digest] = until

    def use_ticket(self, ticket: str, now: float) -> None:
        """Take a ticket for the whole stream, which is good once; NotAuthenticated otherwise."""
        until = self.tickets.pop(hashlib.sha256(ticket.encode()).hexdigest(), 0.0)
        if until <= now:
            raise NotAuthenticated(
                "this address was used before, or its time is over",
                advice="ask `/v1/leases/{id}/stream` of the gateway for another",
            )

    def keep_receipt(self, number: int, receipt: str) -> None:
        """Remember that the intent for a segment is durable."""
        self.receipts[number] = receipt
        while len(self.receipts) > _RECEIPTS_MAX:
            self.receipts.popitem(last=False)

    def stop(self, reason: GatewayError) -> int:
        """Drop every running stream at once; return how many there were."""
        self.stopped = self.stopped or reason
        count = self.drop_streams()
        for ring in tuple(self.rings):
            ring.abort()
        return count

    def drop_streams(self) -> int:
        """Drop the running streams; the lease itself stays."""
        count = len(self.streams)
        for connection in tuple(self.streams):
            connection.abort()
        self.streams.clear()
        return count


class LeaseTable:
    """Open leases, and the last closed ones so that late requests get the true reason."""

    def __init__(self) -> None:
        """Start empty."""
        self.frames = self.segments = self.bytes = 0  # since start; for status and metrics
        self.flight = Flight()
        self._open: dict[str, OpenLease] = {}
        self._closed: OrderedDict[str, Credentials] = OrderedDict()

    def add(self, lease: OpenLease) -> None:
        """Take a lease."""
        self._open[lease.spec.lease] = lease

    def all(self) -> list[OpenLease]:
        """Return the open leases."""
        return list(self._open.values())

    @property
    def streams(self) -> int:
        """How many segments are being sent now."""
        return sum(len(lease.streams) for lease in self._open.values())

    def get(self, lease: str) -> OpenLease:
        """Return an open lease; NotFound when there is none of that id."""
        found = self._open.get(lease)
        if found is None:
            raise NotFound("no such lease is open here", advice="open a new lease")
        return found

    def credentials(self, lease: str) -> Credentials:
        """Return what requests of a lease are checked with; NotFound when it never was here.

        A lease that was closed has a `reason`, to be told to who has its key.
        """
        return self._closed.get(lease) or self.get(lease).credentials

    def close(self, lease: str, reason: GatewayError) -> int:
        """Stop and forget a lease, keys of data included; return how many streams it had."""
        found = self._open.pop(lease, None)
        if found is None:
            return 0
        found.credentials.reason = reason
        self._closed[lease] = found.credentials
        while len(self._closed) > _CLOSED_MAX:
            self._closed.popitem(last=False)
        return found.stop(reason)
