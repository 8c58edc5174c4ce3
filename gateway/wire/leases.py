"""Leases on the wire: what a trainer asks for, and what it gets to stream with.

Plain frozen dataclasses of JSON values, read and written by `wire.codec`. The lease manifest
is the payload of a signed document (docs/formats/segment-v1.md §2); the lease key stands in
a LeaseView exactly once, in the reply that opens the lease.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import InvalidInput

LEASE_MANIFEST_FORMAT = "lease-manifest-v0"
LANES_MAX = 240
WORLD_MAX = 4096
LOST = "lost"  # `closed` of a lease whose data worker died
GOES_ON = (LOST, "restart", "stopping")  # a new lease goes on where one closed so was
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_FRAMEWORK = re.compile(r"[a-z][a-z0-9_]{0,31}-[0-9A-Za-z.+_-]{1,64}\Z")
LANES_SHUFFLED_DEFAULT = 8  # ≤ 8 x 16 MiB of segments open at once in a single-rank client


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRequest:
    """How the rows should come; docs/formats/order-v0.md says what each word means."""

    seed: int = 0
    epoch: int = 0
    shuffle: bool = False
    lanes: int | None = None  # None: 8 when shuffled, else as many as ranks
    window_blocks: int = 64  # blocks whose rows are shuffled among each other
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise InvalidInput(f"rank `{self.rank}` is not within a world of `{self.world}`")
        if self.world > WORLD_MAX:
            raise InvalidInput(f"`world` is 1 to {WORLD_MAX}")
        if self.seed < 0 or self.epoch < 0:
            raise InvalidInput("`seed` and `epoch` count from 0")
        if self.lanes is not None and not 1 <= self.lanes <= LANES_MAX:
            raise InvalidInput(f"`lanes` is 1 to {LANES_MAX}")
        if not 1 <= self.window_blocks <= 64:  # noqa: PLR2004
            raise InvalidInput("`window_blocks` is 1 to 64")
        if self.world > self.lanes_chosen:
            raise InvalidInput(
                f"a world of `{self.world}` ranks does not fit `{self.lanes_chosen}` lanes",
                advice=f"use at most {self.lanes_chosen} ranks, or start with more lanes",
            )

    @property
    def lanes_chosen(self) -> int:
        """The lane count this request stands for."""
        if self.lanes is not None:
            return self.lanes
        return max(LANES_SHUFFLED_DEFAULT if self.shuffle else 1, self.world)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRequest:
    """POST /v1/leases. Dataset, columns and purpose come from the token's Grant."""

    order: OrderRequest = field(default_factory=OrderRequest)
    split: str | None = None  # None: the split of the Grant
    run: str | None = None  # None: the run of the Grant
    position: dict[str, Any] | None = None  # a StreamPosition to resume at (order-v0.md §5)
    as_arrow: bool = False  # to be read whole, as one Arrow IPC stream, from `/stream`
    code: str | None = None  # SHA-256 hex of the program that streams
    framework: str | None = None  # what it trains with: `torch-2.13.0`

    def __post_init__(self) -> None:
        if self.code is not None and not _SHA256.match(self.code):
            raise InvalidInput("`code` is a SHA-256 in hex")
        if self.framework is not None and not _FRAMEWORK.match(self.framework):
            raise InvalidInput("`framework` is a name and a version", advice="as `torch-2.13.0`")
        order = self.order
        if self.as_arrow and (order.shuffle or order.lanes_chosen > 1 or self.position):
            raise InvalidInput(
                "one Arrow stream has the version's order, for one rank, from its first row",
                advice="leave out `order` and `position`, or read segments",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseColumn:
    """One column of the stream. `dtype` and `shape` are empty in a view (see its schema)."""

    name: str
    arrow: str  # Arrow type as text
    dtype: str = ""  # numpy, little endian: `<i4`
    shape: tuple[int, ...] = ()  # of one value: () = scalar
    metadata: dict[str, str] = field(default_factory=dict)  # direct (domain/field_metadata.py)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseManifest:
    """What the client verifies every segment against."""

    format: str
    lease: str
    dataset: str  # with version
    split: str | None
    kind: str  # `direct` | `view`
    plan_digest: str
    columns: tuple[LeaseColumn, ...]
    schema: str | None  # view: base64 of the Arrow IPC schema message
    rows: int  # visible rows of the whole order
    lanes: tuple[tuple[int, ...], ...]  # rows of each segment, lane by lane; segment 0 first
    order: OrderRequest  # as granted; `lanes` is set
    order_id: str  # names this order: a position of another order is refused
    window_key: str  # hex, 32 bytes: shuffles the rows of a segment; empty when not shuffled
    boot: str  # of the gateway; part of every signed request

    def __post_init__(self) -> None:
        if self.format != LEASE_MANIFEST_FORMAT:
            raise InvalidInput(f"`{self.format[:40]}` is not a lease manifest of this version")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseView:
    """The reply to opening, reading and renewing a lease."""

    lease: str
    state: str  # `open` | `building` (a view; ask again when `operation` is done) | `closed`
    expires_at: int  # Unix seconds
    policy_epoch: int = 0
    data_url: str | None = None  # of the data worker: `http://127.0.0.1:41234`
    ring: str | None = None  # path of the worker's Unix socket, for clients on its host
    lease_key: str | None = None  # base64, 32 bytes; only in the reply that opens
    manifest: dict[str, Any] | None = None  # signed document whose payload is a LeaseManifest
    plan: dict[str, Any] | None = None  # what the Grant permits, for the reader
    operation: str | None = None  # op_… while the view is being built
    closed: str | None = None  # why it is closed: LOST, `revoked`, …
