"""Everything the catalogue is made of: plain values, so that it can be saved and compared."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from gateway.catalog.ranges import Ranges
from gateway.catalog.records import (
    Asked,
    Bundle,
    DayBytes,
    DecisionRecord,
    Erasure,
    Identity,
    KeyRecord,
    KeyRelease,
    LeaseState,
    ProposedBundle,
    RingRecord,
    Run,
    Tenant,
    Vouched,
)
from gateway.domain.combining import Planned
from gateway.domain.dataset import Dataset
from gateway.domain.lease import Grant
from gateway.domain.obligations import Fulfilment
from gateway.errors import Conflict, NotFound

DECISIONS_KEPT = 10_000
CLOSED_LEASES_KEPT = 10_000
REQUESTS_KEPT = 10_000
CLAIMS_KEPT = 4096  # of a tenant: the same claim again after so many others is recorded again


def planned_key(recipient: str, dataset_id: str) -> str:
    """What one tenant was given of one dataset, over all its versions."""
    return f"{recipient} {dataset_id}"


def _detached(value: Any) -> Any:
    """A copy whose sets, lists and dicts are its own."""
    if not is_dataclass(value):
        return copy(value)
    parts = {f.name: getattr(value, f.name) for f in fields(value)}
    own = {n: copy(v) for n, v in parts.items() if isinstance(v, (set, list, dict))}
    return replace(value, **own)  # type: ignore[type-var] # a record, always


@dataclass(slots=True)
class State:
    """The fold of the first `index` events."""

    index: int = 0
    policy_epoch: int = 0
    newest_us: int = 0  # time of the newest event, Unix microseconds
    tenants: dict[str, Tenant] = field(default_factory=dict)
    identities: dict[str, Identity] = field(default_factory=dict)
    datasets: dict[str, Dataset] = field(default_factory=dict)  # by `tenant/name`
    last_versions: dict[str, int] = field(default_factory=dict)  # of names that lost versions
    erasures: dict[str, Erasure] = field(default_factory=dict)
    rings: dict[str, RingRecord] = field(default_factory=dict)  # by tenant
    bundles: dict[str, Bundle] = field(default_factory=dict)  # by tenant
    keys: dict[str, KeyRecord] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    planned: dict[str, tuple[Planned, ...]] = field(default_factory=dict)  # by `planned_key`
    erased_grants: dict[str, str] = field(default_factory=dict)  # id -> owner; plan was erased
    key_releases: dict[str, tuple[KeyRelease, ...]] = field(default_factory=dict)  # by dataset_id
    leases: dict[str, LeaseState] = field(default_factory=dict)  # open ones
    closed_leases: dict[str, LeaseState] = field(default_factory=dict)  # the newest
    delivered: dict[str, Ranges] = field(default_factory=dict)  # grant and order -> segments
    unsettled: dict[str, Ranges] = field(default_factory=dict)  # ended before it was confirmed
    passes: dict[str, tuple[str, ...]] = field(default_factory=dict)  # grant -> orders begun
    fulfilled: dict[str, Fulfilment] = field(default_factory=dict)  # by obligation id
    decisions: dict[str, DecisionRecord] = field(default_factory=dict)  # the newest
    requests: dict[str, Asked] = field(default_factory=dict)  # oldest first
    runs: dict[str, Run] = field(default_factory=dict)
    revoked_tokens: dict[str, int] = field(default_factory=dict)  # jti -> expires_at
    vouched: dict[str, Vouched] = field(default_factory=dict)  # by jti, in order of issue
    day_bytes: dict[str, DayBytes] = field(default_factory=dict)  # by receiving tenant
    proposed: dict[str, ProposedBundle] = field(default_factory=dict)  # by tenant, the newest
    expired: dict[str, dict[str, int]] = field(default_factory=dict)  # tenant, month -> index
    claims: dict[str, dict[str, int]] = field(default_factory=dict)  # tenant -> digest -> index

    @property
    def gone(self) -> int:
        """How often something was erased or expired."""
        return len(self.erasures) + sum(map(len, self.expired.values()))

    def expired_of(self, tenant: str) -> tuple[str, ...]:
        """Months of the tenant's history whose details are gone (or about to go)."""
        return tuple(self.expired.get(tenant, {}))

    @property
    def newest_expiry(self) -> int:
        """Index of the newest event by which a month expired; -1 when none did."""
        months = (index for known in self.expired.values() for index in known.values())
        return max(months, default=-1)

    def copy(self) -> State:
        """Another one that no later event changes: most values are immutable, these are not."""
        parts = {f.name: copy(getattr(self, f.name)) for f in fields(self)}
        for name in (
            "leases",
            "closed_leases",
            "delivered",
            "unsettled",
            "runs",
            "claims",
            "expired",
        ):
            parts[name] = {key: _detached(value) for key, value in parts[name].items()}
        return State(**parts)

    def tenant(self, name: str) -> Tenant:
        """The tenant, or NotFound."""
        try:
            return self.tenants[name]
        except KeyError as cause:
            raise NotFound(f"no tenant `{name[:80]}`") from cause

    def dataset(self, name: str, dataset_id: str) -> Dataset:
        """The dataset `tenant/name`; Conflict when it is another one of that name."""
        found = self.datasets.get(name)
        if found is None:
            raise NotFound(f"no dataset `{name[:160]}`")
        if found.dataset_id != dataset_id:
            raise Conflict(f"`{name}` is another dataset now")
        return found

    def next_version(self, name: str) -> int:
        """The number of the dataset's next version; none is ever used twice under one name."""
        known = self.datasets.get(name)
        return max(known.last_version if known else 0, self.last_versions.get(name, 0)) + 1

    def lease(self, lease_id: str) -> LeaseState:
        """The open or lately closed lease, or NotFound."""
        found = self.leases.get(lease_id) or self.closed_leases.get(lease_id)
        if found is None:
            raise NotFound(f"no lease `{lease_id[:80]}`")
        return found
