"""What the catalogue knows besides the domain's values: who, decisions, requests, runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.domain.access import Limits, Plan
from gateway.domain.dataset import DatasetVersion
from gateway.domain.lease import Lease, OrderSpec
from gateway.domain.tenant import TenantLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """An organisation."""

    name: str
    added_at: float  # Unix seconds
    suspended: bool = False
    limits: TenantLimits = field(default_factory=TenantLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class DayBytes:
    """What was delivered to a tenant on the newest day that brought it anything."""

    day: int  # UTC, since 1970
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A person or job that can prove who it is."""

    id: str  # `startup/ml`
    tenant: str
    type: str  # `person` | `job`
    roles: tuple[str, ...]
    thumbprint: str | None  # RFC 7638, of public_key
    public_key: str | None  # None: a trusted issuer vouches for it
    added_at: float  # Unix seconds
    disabled: bool = False
    rotated_at: float = 0.0  # since when its key counts, if it had another before


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The rules of one tenant in force."""

    tenant: str
    digest: str  # SHA-256 hex; the files are stored under it
    files: int
    rules: int
    index: int  # of the event that put it in force
    published_at: float  # Unix seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedBundle:
    """Rules that wait for a second person."""

    tenant: str
    digest: str  # SHA-256 hex; the files are stored under it
    files: int
    rules: int
    base: str  # digest of the bundle in force that they replace
    index: int  # of the event that proposed them
    proposed_at: float  # Unix seconds
    expires_at: int  # Unix seconds
    proposer: str | None  # None when it was erased: nobody can approve then


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A signing key that the log introduced."""

    key_id: str
    use: str
    public_key: str
    at: float  # Unix seconds
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRelease:
    """Data keys that left the gateway for good; erasing and revoking cannot take them back."""

    grant: str
    decision: str
    dataset: str  # `tenant/name`
    version: int
    recipient: str | None  # None: its details were erased
    recipient_tenant: str
    columns: tuple[int, ...]  # field ids
    shards: tuple[str, ...]  # whose footers and leaves of `columns` can be opened
    keys: int
    rows: int
    bytes: int  # of the sealed shards
    at: float  # Unix seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """One recorded Decision, for `explain` and lists; the newest only (lineage has them all)."""

    id: str
    index: int
    time: float  # Unix seconds
    owner_tenant: str
    actor_tenant: str | None
    actor: str | None  # None when it was erased
    action: str
    effect: str  # `allow` | `deny`
    dataset: str | None
    dataset_id: str | None
    version: int | None
    split: str | None
    purpose: str | None
    reasons: tuple[str, ...]  # codes
    rules: tuple[str, ...]
    bundle: str
    policy_epoch: int
    catalog_index: int
    columns: tuple[int, ...]  # field ids
    masks: Mapping[str, str]  # field id -> mask
    grant: str | None
    run: str | None
    details: Mapping[str, Any] | None  # plan, request, advice; None when erased

    @property
    def advice(self) -> str | None:
        """What would have to change, as the requester was told."""
        return self.details.get("advice") if self.details else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RingRecord:
    """The newest generations of a keyring that the journal knows; older ones are refused."""

    tenant: str
    root: int
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """What was taken away for ever; without a certificate its destruction is not finished."""

    id: str
    dataset: str  # tenant/name
    dataset_id: str
    version: int | None  # None: every version there was
    columns: tuple[int, ...]  # field ids; (): whole versions
    column_names: tuple[str, ...]
    versions: tuple[DatasetVersion, ...]  # as they were, of those concerned, with their tags
    released: Mapping[str, int]  # as the dataset's: what was made from it, up to where
    root: int  # root generation that was in force
    keks: tuple[str, ...]
    deks: int
    shards: int
    shards_kept: int
    by: str
    at: float  # Unix seconds
    reason: str
    certificate: str | None = None  # SHA-256 hex
    certificate_key: str | None = None  # in the object store


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """What a trusted issuer says of the subject of an API token."""

    attributes: Mapping[str, Any]
    expires_at: int  # of the token, Unix seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What somebody asked a person for, and what he was answered.

    Without `plan` the owner's details were erased: it stays known, and is never approved.
    """

    id: str  # req_…
    asked_at: int  # Unix seconds
    expires_at: int  # pending no longer than this
    owner_tenant: str
    subject: str | None
    subject_tenant: str
    subject_tag: str | None  # keyed
    dataset: str
    dataset_id: str
    version: int
    action: str
    purpose: str
    split: str | None
    run: str | None
    fields: tuple[int, ...]  # ids of the Plan's columns
    columns: tuple[str, ...] | None  # names as asked
    limits: Limits  # as asked
    valid_seconds: int | None
    reason: str | None
    attributes: Mapping[str, Any]  # of the subject, when it asked
    plan: Plan | None  # that the rules would allow if a person says yes
    request_digest: str
    plan_digest: str
    policy_epoch: int
    answer: str | None = None  # `approve` | `reject`
    answered_at: int | None = None
    answered_by: str | None = None
    answer_reason: str | None = None
    given_fields: tuple[int, ...] = ()  # of these the approval is for
    given_until: int | None = None  # Unix seconds
    grant: str | None = None  # that the approval became

    def state(self, now: float) -> str:
        """`pending`, `approved`, `rejected`, or `expired` when nobody answered in time."""
        if self.answer is not None:
            return "approved" if self.answer == "approve" else "rejected"
        return "pending" if now < self.expires_at else "expired"


@dataclass(slots=True, kw_only=True)
class Run:
    """A training job, as far as the gateway saw it."""

    id: str
    subject: str
    subject_tenant: str
    first_at: float  # Unix seconds
    last_at: float
    grants: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()  # `tenant/name@version`
    purposes: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()  # tenants
    leases: int = 0
    rows_confirmed: int = 0  # handed to the kernel or ring
    rows_acknowledged: int = 0  # the client says it has them
    model: str | None = None
    artifact_sha256: str | None = None
    acknowledged: dict[str, int] = field(default_factory=dict)  # Grant and order -> rows
    finished_at: float | None = None
    finished_index: int | None = None  # of the event that says so
    attestation: str | None = None  # SHA-256 hex of the envelope
    attestation_key: str | None = None  # in the object store


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What one rank of a run received under one Grant in one order, over all its leases."""

    grant: str
    view: bool
    order: OrderSpec
    segments: tuple[tuple[int, int], ...]  # first and last, ascending; handed over or under way
    of: int  # segments of the whole order, which all ranks share
    rows_acknowledged: int = 0
    pending: frozenset[int] = frozenset()  # intended and not confirmed, now or ever


@dataclass(slots=True, kw_only=True)
class LeaseState:
    """An open (or lately closed) stream with what was charged for it."""

    id: str
    grant: str
    run: str | None
    order: OrderSpec
    opened_at: int
    expires_at: int
    policy_epoch: int
    plan_digest: str
    worker: int
    segments: int
    view: bool
    closed: str | None = None
    confirmed: set[int] = field(default_factory=set)
    free: set[int] = field(default_factory=set)  # delivered before under the same order
    pending: set[int] = field(default_factory=set)  # intended and charged, not yet confirmed
    charged_rows: int = 0  # by intents of this lease
    charged_bytes: int = 0
    settled_rows: int = 0  # of these, confirmed
    settled_bytes: int = 0
    rows_acknowledged: int = 0

    def shown(self) -> Lease:
        """The domain's value."""
        return Lease(
            id=self.id,
            grant=self.grant,
            run=self.run,
            order=self.order,
            opened_at=self.opened_at,
            expires_at=self.expires_at,
            policy_epoch=self.policy_epoch,
            plan_digest=self.plan_digest,
            worker=self.worker,
            segments=self.segments,
            closed=self.closed,
            confirmed=frozenset(self.confirmed),
        )
