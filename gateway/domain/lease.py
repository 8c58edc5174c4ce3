"""Grant, Lease and stream geometry: the recorded permission and the open stream under it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.domain.access import Plan

SEGMENT_BLOCKS_MAX = 64
SEGMENT_BYTES_MAX = 16 << 20  # plaintext pages; one over-large row is a segment of its own
CHUNK_BYTES_MAX = 1 << 20
LEASE_SECONDS_MAX = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A recorded permission. Outlives tokens; all ranks of one run and request share it."""

    id: str  # grant_…
    decision: str  # dec_…
    subject: str
    subject_tenant: str
    owner_tenant: str
    plan: Plan
    run: str | None
    granted_at: int  # Unix seconds
    expires_at: int
    attributes: Mapping[str, Any] = field(default_factory=dict)  # of the Subject, when it asked
    parent: str | None = None  # the wider Grant it is cut from; ends with it, and charges it too
    revoked: bool = False
    revoked_at: int | None = None
    rows_charged: int = 0  # intents less refunds; the budget of max_rows
    bytes_charged: int = 0

    @property
    def ends_at(self) -> int:
        """Unix seconds from which it permits nothing."""
        return min(self.expires_at, self.revoked_at or self.expires_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderSpec:
    """How the rows of a lease are ordered; see domain/order.py."""

    seed: int = 0
    epoch: int = 0
    shuffle: bool = False
    lanes: int = 1
    window_blocks: int = SEGMENT_BLOCKS_MAX
    rank: int = 0
    world: int = 1

    @property
    def pass_id(self) -> str:
        """Names the order; every rank, world and reconnection of one pass has the same."""
        mixed = "shuffled" if self.shuffle else "plain"
        return f"{self.seed}.{self.epoch}.{mixed}.{self.lanes}.{self.window_blocks}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """An open stream of one Grant on one data worker."""

    id: str  # lease_…
    grant: str
    run: str | None
    order: OrderSpec
    opened_at: int  # Unix seconds
    expires_at: int
    policy_epoch: int  # at the last judgement
    plan_digest: str
    worker: int
    segments: int  # how many this lease can deliver
    closed: str | None = None  # reason
    confirmed: frozenset[int] = field(default_factory=frozenset)
