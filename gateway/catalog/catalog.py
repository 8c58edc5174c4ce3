"""What is: the fold of the journal in memory. Every answer that decides something comes from here.

Events come in index order from one writer (`apply` is given to `Journal.open`); readers on
the control process's event loop see whole events. Nothing here reads a file, a clock or a
database, so nothing a decision rests on can be edited on disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from gateway.catalog import ancestry, deliveries, streams
from gateway.catalog.folds import FOLDS
from gateway.catalog.records import (
    Asked,
    DecisionRecord,
    Delivery,
    Erasure,
    Identity,
    KeyRecord,
    KeyRelease,
    ProposedBundle,
    RingRecord,
    Run,
    Tenant,
)
from gateway.catalog.state import State, planned_key
from gateway.domain.combining import Planned
from gateway.domain.dataset import Dataset, DatasetRef, DatasetVersion
from gateway.domain.derivation import Ancestor
from gateway.domain.events import RAISES_POLICY_EPOCH, Event
from gateway.domain.lease import Grant, Lease
from gateway.domain.obligations import Fulfilment
from gateway.errors import IntegrityError, NotFound

T = TypeVar("T")


class Catalog:
    """Present state, and how it follows from events."""

    def __init__(self, state: State | None = None) -> None:
        """Start empty, or from the state of a snapshot."""
        self._state = state or State()

    def apply(self, event: Event) -> None:
        """Take the next event.

        Raises:
            GatewayError: the event contradicts the state, which is unchanged.
            IntegrityError: it is not the next one, or of a kind nobody here knows.
        """
        state = self._state
        if event.index != state.index:
            raise IntegrityError(
                f"event {event.index} came where {state.index} was due", index=state.index
            )
        fold = FOLDS.get(event.kind)
        if fold is None:
            raise IntegrityError(f"event {event.index} is of an unknown kind", index=event.index)
        fold(state, event)
        state.index = event.index + 1
        state.newest_us = max(state.newest_us, event.time_us)
        if event.kind in RAISES_POLICY_EPOCH:
            state.policy_epoch += 1

    @property
    def state(self) -> State:
        """The state itself, for snapshots and comparison; never change it."""
        return self._state

    @property
    def index(self) -> int:
        """How many events are folded in: the index of the next one."""
        return self._state.index

    @property
    def policy_epoch(self) -> int:
        """How often something that can narrow a Plan has happened."""
        return self._state.policy_epoch

    @property
    def newest_time(self) -> float:
        """Time of the newest event (Unix seconds): a clock far behind it is wrong."""
        return self._state.newest_us / 1_000_000

    # Tenants and identities

    def tenant(self, name: str) -> Tenant:
        """One tenant; NotFound."""
        return self._state.tenant(name)

    def tenants(self) -> list[Tenant]:
        """All tenants, by name."""
        return [self._state.tenants[name] for name in sorted(self._state.tenants)]

    def identity(self, identity_id: str) -> Identity:
        """One identity, disabled or not; NotFound."""
        return _one(self._state.identities, identity_id, "identity")

    def identities(self, tenant: str) -> list[Identity]:
        """All identities of a tenant, by id."""
        found = (i for i in self._state.identities.values() if i.tenant == tenant)
        return sorted(found, key=lambda identity: identity.id)

    # Datasets and rules

    def dataset(self, tenant: str, name: str) -> Dataset:
        """One dataset; NotFound."""
        return _one(self._state.datasets, f"{tenant}/{name}", "dataset")

    def datasets(self) -> list[Dataset]:
        """All datasets, by tenant and name."""
        return [self._state.datasets[name] for name in sorted(self._state.datasets)]

    def version(self, ref: DatasetRef) -> DatasetVersion:
        """One version (None = the newest); NotFound."""
        dataset = self.dataset(ref.tenant, ref.name)
        if ref.version is None:
            return dataset.newest
        for version in dataset.versions:
            if version.ref == ref:
                return version
        raise NotFound(f"no dataset `{ref}`")

    def registered_by(self, registration: str) -> DatasetVersion | None:
        """The version that a registration made; None when it made none (yet)."""
        versions = (v for d in self._state.datasets.values() for v in d.versions)
        return next((v for v in versions if v.registration == registration), None)

    def ancestors(self, ref: DatasetRef) -> tuple[Ancestor, ...]:
        """The versions whose rules and tags this version inherits, by name."""
        return ancestry.ancestors(self._state, self.version(ref))

    def is_suspended(self, ref: DatasetRef) -> bool:
        """Whether it, or what it was made from and is not released, is suspended, or its tenant."""
        return ancestry.is_suspended(self._state, self.version(ref))

    def manifest_key(self, ref: DatasetRef) -> str:
        """Key of the version's Manifest in the object store; NotFound."""
        return self.version(ref).manifest_key

    def expect_next_version(self, ref: DatasetRef) -> int:
        """The number the next VersionRegistered of this dataset must carry."""
        return self._state.next_version(str(ref.unversioned))

    def bundle(self, tenant: str) -> str | None:
        """Digest of the tenant's rules in force; None = it never published any."""
        found = self._state.bundles.get(tenant)
        return found.digest if found else None

    def proposed(self, tenant: str) -> ProposedBundle | None:
        """Rules of the tenant that wait for a second person, or waited too long."""
        return self._state.proposed.get(tenant)

    def erasures(self, dataset: DatasetRef | None = None) -> list[Erasure]:
        """What was erased, of one dataset (name) if given, oldest first."""
        name = None if dataset is None else str(dataset.unversioned)
        return [e for e in self._state.erasures.values() if name in (None, e.dataset)]

    def rings(self) -> list[RingRecord]:
        """The newest recorded generations of each keyring that was ever rotated."""
        return list(self._state.rings.values())

    def keys(self) -> list[KeyRecord]:
        """Signing keys that the log introduced, in that order."""
        return list(self._state.keys.values())

    # Decisions, grants, streams

    def decision(self, decision_id: str) -> DecisionRecord:
        """One of the newest Decisions; NotFound (lineage has the older ones)."""
        return _one(self._state.decisions, decision_id, "decision")

    def decisions(
        self,
        *,
        owner: str | None = None,
        actor: str | None = None,
        effect: str | None = None,
        limit: int | None = None,
    ) -> list[DecisionRecord]:
        """The newest Decisions that match, newest first."""
        found: list[DecisionRecord] = []
        for record in reversed(self._state.decisions.values()):
            if limit is not None and len(found) >= limit:
                break
            if (
                owner in (None, record.owner_tenant)
                and actor in (None, record.actor)
                and effect in (None, record.effect)
            ):
                found.append(record)
        return found

    def grant(self, grant_id: str) -> Grant:
        """One Grant, revoked, run out or not; NotFound (also when its plan was erased)."""
        return _one(self._state.grants, grant_id, "grant")

    def grants(
        self,
        *,
        owner: str | None = None,
        subject: str | None = None,
        dataset: DatasetRef | str | None = None,
        run: str | None = None,
        tenant: str | None = None,
    ) -> list[Grant]:
        """Grants that match all that is given, oldest first.

        Args:
            owner: tenant whose data it is.
            subject: who may read, `startup/ml`.
            dataset: with a version only Grants of that version.
            run: of this training run.
            tenant: tenant of the subject.
        """
        ref = DatasetRef.parse(dataset) if isinstance(dataset, str) else dataset
        return [
            grant
            for grant in self._grants_of(run)
            if owner in (None, grant.owner_tenant)
            and subject in (None, grant.subject)
            and tenant in (None, grant.subject_tenant)
            and (ref is None or _covers(ref, grant.plan.dataset))
        ]

    def _grants_of(self, run: str | None) -> Iterable[Grant]:
        grants = self._state.grants
        if run is None:
            return grants.values()
        known = self._state.runs.get(run)
        return [grants[grant] for grant in known.grants] if known else []

    def request(self, request_id: str) -> Asked:
        """What somebody asked a person for; NotFound."""
        return _one(self._state.requests, request_id, "access request")

    def requests(self, subject: str | None = None) -> list[Asked]:
        """All of them, or those of one subject; newest first."""
        known = reversed(self._state.requests.values())
        return [asked for asked in known if subject in (None, asked.subject)]

    def planned(self, recipient: str, dataset_id: str) -> tuple[Planned, ...]:
        """What a tenant was ever given of a dataset of another, without what is covered."""
        return self._state.planned.get(planned_key(recipient, dataset_id), ())

    def key_releases(self, dataset_id: str, grant: str | None = None) -> list[KeyRelease]:
        """Every release of data keys of a dataset (under one Grant, if given), oldest first."""
        found = self._state.key_releases.get(dataset_id, ())
        return [release for release in found if grant in (None, release.grant)]

    def passes(self, grant_id: str) -> tuple[str, ...]:
        """Orders in which a Grant with `max_epochs`, or one cut from it, was read so far."""
        return self._state.passes.get(grant_id, ())

    def was_released(self, grant: Grant) -> bool:
        """Whether rows or keys left under a Grant (or one cut from it)."""
        return grant.rows_charged > 0

    def fulfilment(self, obligation: str) -> Fulfilment | None:
        """How an obligation was fulfilled; None as long as it is not."""
        return self._state.fulfilled.get(obligation)

    def lease(self, lease_id: str) -> Lease:
        """One open or lately closed lease; NotFound."""
        return self._state.lease(lease_id).shown()

    def leases(self, grant: str | None = None, *, open_only: bool = True) -> list[Lease]:
        """Leases, of one Grant if given, oldest first; closed ones only as long as kept."""
        state = self._state
        closed = () if open_only else state.closed_leases.values()
        known = (*closed, *state.leases.values())
        return [lease.shown() for lease in known if grant in (None, lease.grant)]

    def vouched(self, jti: str) -> Mapping[str, Any]:
        """What a trusted issuer vouches for of an API token's subject; mostly nothing."""
        found = self._state.vouched.get(jti)
        return {} if found is None else found.attributes

    def open_streams(self, tenant: str, now: float) -> int:
        """How many leases that a tenant receives are open; one whose time is up is not."""
        state = self._state
        grants = (state.grants.get(x.grant) for x in state.leases.values() if x.expires_at > now)
        return sum(grant is not None and grant.subject_tenant == tenant for grant in grants)

    def bytes_on(self, tenant: str, day: int) -> int:
        """Bytes delivered to a tenant on the newest day, if that is not over by `day` (UTC)."""
        known = self._state.day_bytes.get(tenant)
        return known.bytes if known is not None and known.day >= day else 0

    def was_delivered(self, lease_id: str, first: int, last: int) -> bool:
        """Whether these segments of a lease came before in the same order: they cost nothing."""
        segments = self._state.delivered.get(streams.order_key(self._state.lease(lease_id)))
        return segments is not None and segments.covers(first, last)

    def is_token_revoked(self, jti: str) -> bool:
        """Whether a token was taken back before its time."""
        return jti in self._state.revoked_tokens

    def claim(self, tenant: str, digest: str) -> int | None:
        """Index of the event that recorded this claim lately; None when none did."""
        return self._state.claims.get(tenant, {}).get(digest)

    def run(self, run_id: str) -> Run:
        """One training run; NotFound."""
        return _one(self._state.runs, run_id, "run")

    def is_finished(self, run_id: str) -> bool:
        """Whether a run of this name said that it is over."""
        run = self._state.runs.get(run_id)
        return run is not None and run.finished_at is not None

    def deliveries(self, run_id: str) -> list[Delivery]:
        """What a run was handed, by Grant and order; NotFound."""
        return deliveries.of_run(self._state, self.run(run_id))

    def runs(self) -> Iterator[Run]:
        """All training runs, oldest first."""
        return iter(list(self._state.runs.values()))


def _one(known: Mapping[str, T], name: str, what: str) -> T:
    try:
        return known[name]
    except KeyError as cause:
        raise NotFound(f"no {what} `{name[:160]}`") from cause


def _covers(wanted: DatasetRef, held: DatasetRef) -> bool:
    return wanted == held or (wanted.version is None and wanted == held.unversioned)
