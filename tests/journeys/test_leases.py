"""Leases by the thousand on one gateway: used in part, handed back, run out, revoked.

None opens what belongs to another, limits hold for all of them together, and what they needed
of control and worker comes back. `--long`: ten thousand.
"""

from __future__ import annotations

import secrets
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from gateway.client import GatewayClient
from gateway.client.buffers import Buffers
from gateway.client.leases import HeldLease, LeaseTerms
from gateway.client.segments import Access, Received, SegmentReader
from gateway.client.streaming import GrantedToken, granted_token
from gateway.errors import (
    LeaseExpired,
    LeaseRevoked,
    LimitExceeded,
    NotAuthenticated,
    NotFound,
)
from gateway.process.confine import resident_bytes
from gateway.wire.leases import LeaseRequest, OrderRequest
from tests.journeys.home import Home, wait
from tests.journeys.story import DIRECT, PURPOSE, Story

LEASES, LEASES_LONG = 40, 10_000
LEASE_SECONDS, LEASE_SECONDS_LONG = 2, 20
OF_A_GRANT = 12
STREAMS_MAX, STREAMS_MAX_LONG = 20, 1500  # of the tenant
MARGIN_BYTES = 64 << 20
A_LEASE_BYTES = 6 << 10  # of control, for the 10,000 that it remembers; and of its grant
BUFFERS = Buffers(4)


@dataclass
class Held:
    """A lease in the hands of a client."""

    grant: str
    access: Access
    reader: SegmentReader = field(init=False)

    def __post_init__(self) -> None:
        self.reader = SegmentReader(self.access, BUFFERS)

    def fetch(self, number: int = 0) -> int:
        """Rows of a segment."""
        try:
            return self.reader.fetch(number, Received()).head.rows
        finally:
            self.reader.close()


@dataclass
class Campaign:
    """Opens leases and lets them end in every way."""

    home: Home
    story: Story
    lease_seconds: int
    streams_max: int
    operator: GatewayClient
    live: deque[Held] = field(default_factory=deque)
    over: list[tuple[str, Held]] = field(default_factory=list)  # how it ended
    rows: int = 0
    token: GrantedToken | None = None
    refused: int = 0

    def run(self, count: int) -> None:
        for number in range(count):
            if number % OF_A_GRANT == 0:
                self.end_grant()
                self.token = self.new_grant()
            self.open(number)

    def new_grant(self, **ask: Any) -> GrantedToken:
        wanted = {"purpose": PURPOSE, "columns": DIRECT, **ask}
        return granted_token(self.story.gateway.transport, "home/a", None, wanted)

    def open(self, number: int) -> None:
        token, transport = self.token, self.story.gateway.transport
        assert token is not None
        order = OrderRequest(shuffle=True, seed=number, window_blocks=2)
        try:
            held = HeldLease(transport, LeaseRequest(order=order), LeaseTerms(token=token))
        except LimitExceeded as error:
            if error.facts["limit"] != "max_streams" or len(self.live) < self.streams_max // 2:
                raise
            self.refused += 1
            self.make_room()
            return
        self.live.append(Held(str(token.grant), held.access))
        if number % 3:
            self.rows += self.live[-1].fetch()
        if number % 5 == 0:
            held.close()
            self.over.append(("returned", self.live.pop()))
        if number % 7 == 0 and len(self.live) > 1:
            self.mix_up()

    def mix_up(self) -> None:
        """The key of one lease opens no other."""
        one, other = self.live[-1], self.live[-2]
        with pytest.raises(NotAuthenticated):
            Held("", replace(other.access, key=one.access.key)).fetch()

    def end_grant(self) -> None:
        """Every other Grant is revoked, with what is open of it; the rest runs out."""
        if self.token is None or secrets.randbelow(2):
            return
        grant = str(self.token.grant)
        self.story.gateway.grants.revoke(grant, reason="the campaign")
        mine = [held for held in self.live if held.grant == grant]
        self.live = deque(held for held in self.live if held.grant != grant)
        self.over += [("revoked", held) for held in mine]

    def make_room(self) -> None:
        """Wait until the oldest half has run out, and control has swept it up."""
        for _ in range(len(self.live) // 2):
            self.over.append(("expired", self.live.popleft()))
        wait(lambda: self.open_streams() <= len(self.live), self.lease_seconds + 30, "no room")

    def open_streams(self) -> int:
        """Of the tenant, as the operator sees it."""
        return int(self.operator.tenants.show("home").open_streams)


def process(home: Home, kind: str) -> int:
    found = home.find(kind)
    assert found is not None
    return found.pid


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


ENDS = {
    "returned": (LeaseExpired, NotFound),
    "expired": (LeaseExpired, NotFound),
    "revoked": (LeaseRevoked, LeaseExpired, NotFound),  # a worker remembers the last 4,096
}


def test_leases_by_the_thousand_keep_apart_keep_to_limits_and_leave_nothing(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    is_long = request.config.getoption("--long")
    count, seconds, most = (
        (LEASES_LONG, LEASE_SECONDS_LONG, STREAMS_MAX_LONG)
        if is_long
        else (LEASES, LEASE_SECONDS, STREAMS_MAX)
    )
    home = Home.make(tmp_path, variables={"GATEWAY_LEASE_SECONDS_MAX": str(seconds)})
    try:
        home.start()
        story = Story(home)
        for step in ("register", "publish"):
            story.do(step, "a")
        operator = home.client(home.settings.config_dir / "operator.json")
        operator.tenants.update("home", max_streams=most)
        campaign = Campaign(home, story, seconds, most, operator)
        campaign.run(OF_A_GRANT * 2)  # warm
        pids = {kind: process(home, kind) for kind in ("control", "worker")}
        idle = {kind: resident_bytes(pid) for kind, pid in pids.items()}
        campaign.run(count)
        wait(lambda: campaign.open_streams() == 0, seconds + 30, "some are open")
        campaign.over += [("expired", held) for held in campaign.live]
        for end, held in campaign.over[:: 20 if is_long else 2]:
            with pytest.raises(ENDS[end]):
                held.fetch(1)
        assert_budget_holds(campaign)
        for kind, pid in pids.items():
            assert pid == process(home, kind), f"{kind} was replaced"
            grown = resident_bytes(pid) - idle[kind]
            print(f"{kind}: {grown / 1e6:.1f} MB above idle, {descriptors(pid)} descriptors")
            kept = min(count, 10_000) * A_LEASE_BYTES if kind == "control" else 0
            assert grown < MARGIN_BYTES + kept
        print(f"{len(campaign.over)} over, {campaign.refused} refused, {campaign.rows} rows")
    finally:
        home.end()


def assert_budget_holds(campaign: Campaign) -> None:
    """`max_rows` of a Grant counts for all its leases together."""
    rows_max = 2000
    campaign.token = campaign.new_grant(max_rows=rows_max)
    transport, got, limit = campaign.story.gateway.transport, 0, None
    try:
        for seed in range(200):
            order = OrderRequest(shuffle=True, seed=seed, window_blocks=1)
            terms = LeaseTerms(token=campaign.token)
            held = HeldLease(transport, LeaseRequest(order=order), terms)
            try:
                got += Held("", held.access).fetch()
            finally:
                held.close()
    except LimitExceeded as error:
        limit = error.facts["limit"]
    assert limit == "max_rows"
    assert 0 < got <= rows_max
