"""What every journey needs, in one value: the rooms of the control process, already built.

bootstrap.py fills it once; services take it as their first argument. Nothing here decides:
it only keeps the two promises that every journey shares: an event is applied and its
PolicyEpoch published before anything that follows from it, and a reply waits until the
highest index it depends on is durable.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from gateway.catalog.catalog import Catalog
from gateway.catalog.keeper import SnapshotKeeper
from gateway.config import Settings
from gateway.crypto.identity_keys import public_key_of
from gateway.crypto.signing import Signer
from gateway.crypto.token_cache import VerifiedTokens
from gateway.crypto.tokens import ReplayMemory, nonce_of
from gateway.crypto.vault import KeyVault
from gateway.domain.events import EventDraft
from gateway.domain.ids import new_id
from gateway.domain.lease import Grant
from gateway.errors import NotFound
from gateway.journal.journal import Journal
from gateway.lineage.link import LineageLink
from gateway.policy.bundle import PolicyBundle
from gateway.policy.judge import Judge
from gateway.ports import Kms, ObjectStore
from gateway.process.status_page import StatusWriter
from gateway.services.issuers import Issuers
from gateway.services.operations import Operations
from gateway.services.quota import Quota

if TYPE_CHECKING:
    from gateway.services.claims import Pace
    from gateway.services.evidence import Packed
    from gateway.services.fetch import Fetches
    from gateway.services.rates import Rates
    from gateway.services.refusals import Rate
    from gateway.services.sources import Views
    from gateway.services.upload_records import Upload
    from gateway.services.witness import Witnesses
    from gateway.services.workers import Workers

OUTSIDE_THREADS = 8
_T = TypeVar("_T")
REPLAYS_PER_HOUR = 60
REVIEWS_PER_HOUR = 600  # pages of them
PERSONS_PER_HOUR = 60
NODE = "node-1"  # the name of this gateway's journal; more nodes come later
_ID_BYTES, _IDS_AT_ONCE = 16, 256
PLATFORM = "platform"  # the tenant that operates the machine; it owns no data


@dataclass(frozen=True, slots=True, kw_only=True)
class Signers:
    """One Ed25519 key per use (threats: a signature of one use is worthless for another)."""

    log: Signer
    token: Signer
    manifest: Signer
    view: Signer
    erasure: Signer
    attestation: Signer

    @classmethod
    def uses(cls) -> tuple[str, ...]:
        """The names of the uses, which are those of the fields."""
        return tuple(field.name for field in fields(cls))

    @property
    def all(self) -> tuple[Signer, ...]:
        """Every signer, in the order of the fields."""
        return tuple(getattr(self, use) for use in self.uses())


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Directories under the state directory."""

    bundles: Path
    parts: Path
    staging: Path
    views: Path

    @classmethod
    def under(cls, state_dir: Path) -> Places:
        """Create them (0700) where they are missing."""
        paths = {name: state_dir / name for name in ("bundles", "parts", "staging", "views")}
        for path in paths.values():
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(**paths)


@dataclass(slots=True, kw_only=True)
class House:
    """The built rooms."""

    settings: Settings
    places: Places
    catalog: Catalog
    journal: Journal
    keeper: SnapshotKeeper
    judge: Judge  # swapped whole, never changed
    bundles: dict[str, PolicyBundle] = field(default_factory=dict)  # in force, by tenant
    vault: KeyVault
    kms: Kms
    store: ObjectStore
    signers: Signers
    status: StatusWriter
    now: Callable[[], float]  # Unix seconds
    issuer: str  # our own URL, audience of every token and assertion
    node: str  # names this journal
    replay: ReplayMemory
    strangers: Rate
    pace: Pace  # of claims
    rates: Rates
    issuers: Issuers  # whose tokens we believe besides our own
    verified: VerifiedTokens = field(default_factory=VerifiedTokens)
    bearers: frozenset[str] = frozenset()  # identities that may go without proofs
    views: Views
    fetches: Fetches
    witnesses: Witnesses
    revoked_tokens: dict[str, int] = field(default_factory=dict)  # jti -> expiry
    uploads: dict[str, Upload] = field(default_factory=dict)  # open registrations
    groups: dict[tuple[str, str], int | None] = field(default_factory=dict)  # services/groups.py
    turns: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    # ^ by dataset: registrations of one dataset publish one after the other
    publishing: asyncio.Lock = field(default_factory=asyncio.Lock)  # of rules, one by one
    firsts: dict[str, int] = field(default_factory=dict)  # index of each chain's first event
    packs: dict[str, Packed] = field(default_factory=dict)  # made, not yet fetched
    operations: Operations = field(default_factory=Operations)
    replays: Quota = field(
        default_factory=lambda: Quota(what="replays of rules", most=REPLAYS_PER_HOUR)
    )
    reviews: Quota = field(
        default_factory=lambda: Quota(what="reviews of access", most=REVIEWS_PER_HOUR)
    )
    persons_asked: Quota = field(
        default_factory=lambda: Quota(what="questions about persons", most=PERSONS_PER_HOUR)
    )
    workers: Workers = field(init=False)
    _ids: list[bytes] = field(default_factory=list)  # random, not used yet
    outside: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(OUTSIDE_THREADS, thread_name_prefix="outside")
    )
    lineage: LineageLink = field(default_factory=LineageLink)

    def identity_key(self, identity: str) -> bytes | None:
        """The public key of `tenant/name`; None when it is unknown or disabled.

        That its tenant is suspended is said to who proved to be it (exchange.py), and to no other.
        """
        try:
            found = self.catalog.identity(identity)
        except NotFound:
            return None
        if found.disabled or found.public_key is None:
            return None
        return public_key_of(found.public_key)

    @property
    def boot(self) -> str:
        """Random, new at every start; part of every signed segment request."""
        return self.journal.boot

    @property
    def nonce(self) -> str:
        """What every DPoP proof must answer: a proof made before this start is worth nothing."""
        return nonce_of(self.journal.boot)

    def lineage_of(self, grant: Grant) -> list[Grant]:
        """The Grant and every one it is cut from, the widest last."""
        found = [grant]
        while found[-1].parent is not None:
            found.append(self.catalog.grant(found[-1].parent))
        return found

    def id(self, prefix: str) -> str:
        """A new random id, such as `dec_…`; the system is asked for many at a time."""
        if not self._ids:
            drawn = secrets.token_bytes(_ID_BYTES * _IDS_AT_ONCE)
            self._ids = [drawn[at : at + _ID_BYTES] for at in range(0, len(drawn), _ID_BYTES)]
        return new_id(prefix, self._ids.pop())

    def record(self, draft: EventDraft) -> int:
        """Append one event, apply it, publish the PolicyEpoch; durable a moment later."""
        index = self.journal.append(draft)
        self.status.set_policy_epoch(self.catalog.policy_epoch)
        return index

    async def recorded(self, draft: EventDraft) -> int:
        """Append one event and wait until it is durable."""
        index = self.record(draft)
        await self.journal.durable(index)
        return index

    async def aside(self, act: Callable[..., _T], *given: Any) -> _T:
        """Do in a thread what may wait for the key service or the object store.

        The event loop goes on meanwhile, and so do the threads of everybody else: these are
        few and their own, so that a service that hangs holds up only those who need it.
        """
        return await asyncio.get_running_loop().run_in_executor(self.outside, act, *given)

    async def settled(self) -> None:
        """Wait until everything the catalogue shows is durable (before replying with it)."""
        if self.catalog.index:
            await self.journal.durable(self.catalog.index - 1)
