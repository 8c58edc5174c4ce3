"""The facade that doors call: one method per act, each the straight line of one journey.

Every method but the public ones takes the authenticated `caller` first, takes and returns
wire messages, and raises only GatewayError. Judging, recording and waiting for durability
happen in the services it names; doors only translate.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gateway.wire as W
from gateway.domain.dataset import DatasetRef
from gateway.services import (
    describe,
    grants,
    health,
    obligations,
    register,
    revoke,
    runs,
    shapes,
    tenants,
    update,
    update_tenant,
    uploads,
)
from gateway.services.asking import Asking
from gateway.services.authentication import Authentication
from gateway.services.copies import Copies
from gateway.services.custody import Custody
from gateway.services.history import History
from gateway.services.house import House
from gateway.services.policies import Policies
from gateway.services.request_access import Caller
from gateway.services.streams import Streams


@dataclass(slots=True)
class Gateway(Asking, Authentication, Copies, Custody, History, Policies, Streams):
    """All journeys over one House."""

    house: House

    # datasets

    async def datasets(
        self, caller: Caller, tag: str | None, text: str | None
    ) -> list[W.DatasetSummary]:
        """What the caller may see."""
        found = await describe.datasets(self.house, caller, tag=tag, text=text)
        return [shapes.dataset_summary(*seen) for seen in found]

    async def dataset(self, caller: Caller, ref: str) -> W.DatasetDetail:
        """One dataset, at the version named or the newest."""
        return shapes.dataset_detail(
            *await describe.dataset(self.house, caller, DatasetRef.parse(ref))
        )

    async def columns(self, caller: Caller, ref: str) -> list[W.ColumnView]:
        """Its columns with their tags."""
        return list((await self.dataset(caller, ref)).columns)

    async def versions(self, caller: Caller, ref: str) -> list[W.VersionView]:
        """Its versions, ascending."""
        found = await describe.versions(self.house, caller, DatasetRef.parse(ref))
        return [shapes.version_view(*seen) for seen in found]

    async def manifest(self, caller: Caller, ref: str) -> dict[str, Any]:
        """The signed storage Manifest, for owners and auditors of the tenant."""
        return await describe.manifest(self.house, caller, DatasetRef.parse(ref))

    async def classify(
        self,
        caller: Caller,
        ref: str,
        tags: Mapping[str, Sequence[str]],
        if_match: str | None = None,
    ) -> W.DatasetDetail:
        """Set the tags of columns."""
        wanted = {name: list(values) for name, values in tags.items()}
        return shapes.dataset_detail(
            *await describe.classify(self.house, caller, DatasetRef.parse(ref), wanted, if_match)
        )

    async def update_dataset(
        self, caller: Caller, ref: str, changes: W.DatasetChanges, if_match: str | None
    ) -> W.DatasetDetail:
        """Change card, owners or contact; suspend or resume."""
        seen, stopped = await update.update(
            self.house, caller, DatasetRef.parse(ref), changes, if_match
        )
        detail = shapes.dataset_detail(*seen)
        if stopped is None:
            return detail
        slowest_ms = round(stopped.slowest_ms)
        return replace(detail, streams_stopped=stopped.streams, slowest_ms=slowest_ms)

    async def begin_registration(
        self, caller: Caller, wanted: W.RegistrationRequest, key: str | None
    ) -> W.Registration:
        """Open an upload, or find the one that this Idempotency-Key opened."""
        return await uploads.begin(self.house, caller, wanted, key)

    async def put_part(
        self,
        caller: Caller,
        registration: str,
        file: int,
        n: int,
        stream_: AsyncIterator[bytes],
    ) -> W.PartReceipt:
        """Seal one part on arrival."""
        return await uploads.put_part(self.house, caller, registration, (file, n), stream_)

    async def registration(self, caller: Caller, registration: str) -> W.Registration:
        """Which parts have arrived."""
        return await uploads.state(self.house, caller, registration)

    async def abort_registration(self, caller: Caller, registration: str) -> None:
        """Give an upload up; its parts are deleted."""
        await uploads.abort(self.house, caller, registration)

    async def commit_registration(self, caller: Caller, registration: str) -> W.Operation:
        """Parse, seal and publish the version; answers with an Operation."""
        return shapes.operation_view(await register.commit(self.house, caller, registration))

    # long acts

    async def operations(self, caller: Caller) -> list[W.Operation]:
        """The tenant's Operations, newest first."""
        return [shapes.operation_view(o) for o in self.house.operations.of(caller.subject.tenant)]

    async def operation(self, caller: Caller, operation: str) -> W.Operation:
        """One Operation."""
        found = self.house.operations.get(operation, caller.subject.tenant)
        return shapes.operation_view(found)

    async def cancel_operation(self, caller: Caller, operation: str) -> W.Operation:
        """Stop one."""
        found = self.house.operations.cancel(operation, caller.subject.tenant)
        return shapes.operation_view(found)

    # access

    async def grants(self, caller: Caller, filters: Mapping[str, str]) -> list[W.GrantView]:
        """Grants given from the tenant's data or to the caller's tenant."""
        return [shapes.grant_view(g) for g in await grants.list_(self.house, caller, filters)]

    async def grant(self, caller: Caller, grant: str) -> W.GrantView:
        """One Grant."""
        return shapes.grant_view(await grants.show(self.house, caller, grant))

    async def decision(self, caller: Caller, decision: str) -> W.DecisionView:
        """One recorded Decision, as the caller may see it."""
        return await grants.decision(self.house, caller, decision)

    async def explain(self, caller: Caller, decision: str) -> W.Explanation:
        """Why a Decision came out as it did, and what would have to change."""
        return await grants.explain(self.house, caller, decision)

    async def revoke(self, caller: Caller, wanted: W.RevocationRequest) -> W.Revocation:
        """Take back Grants and stop their streams."""
        selector = revoke.Selector(
            grant=wanted.grant,
            dataset=wanted.dataset,
            subject=wanted.subject,
            run=runs.named(self.house, caller, wanted.run) if wanted.run else None,
            tenant=wanted.tenant,
        )
        done = await revoke.revoke(self.house, caller, selector, wanted.reason or "")
        return W.Revocation(
            grants=len(done.grants),
            streams_stopped=done.streams_stopped,
            slowest_ms=round(done.slowest_ms),
            grant_ids=done.grants,
            keys_released=done.keys_released or None,
        )

    async def obligations(self, caller: Caller, *, overdue: bool) -> list[W.ObligationView]:
        """What the caller's tenant owes and is owed."""
        return await obligations.list_(self.house, caller, overdue=overdue)

    async def fulfil(
        self, caller: Caller, obligation: str, shown: W.FulfilmentRequest
    ) -> W.ObligationView:
        """Record that an obligation is fulfilled."""
        return await obligations.fulfil(self.house, caller, obligation, shown)

    # tenants

    async def tenants(self, caller: Caller) -> list[W.TenantView]:
        """Tenants the caller may see."""
        return await tenants.views(self.house, caller)

    async def tenant(self, caller: Caller, tenant: str) -> W.TenantView:
        """One tenant."""
        return await tenants.show(self.house, caller, tenant)

    async def add_tenant(self, caller: Caller, wanted: W.TenantRequest) -> W.TenantView:
        """Add a tenant, with its first owner when a key is given."""
        await tenants.add_tenant(self.house, caller, wanted)
        return await tenants.view(self.house, caller, wanted.tenant)

    async def update_tenant(
        self, caller: Caller, tenant: str, wanted: W.TenantChanges
    ) -> W.TenantView:
        """Set its limits; suspend or resume it."""
        return await update_tenant.update_tenant(self.house, caller, tenant, wanted)

    async def identities(self, caller: Caller, tenant: str) -> list[W.IdentityView]:
        """The tenant's identities."""
        return await tenants.identities(self.house, caller, tenant)

    async def add_identity(
        self, caller: Caller, tenant: str, wanted: W.IdentityRequest
    ) -> W.IdentityView:
        """Register a public key."""
        return await tenants.add_identity(self.house, caller, tenant, wanted)

    async def change_identity(
        self, caller: Caller, tenant: str, wanted: W.IdentityChange
    ) -> W.IdentityChanged:
        """End an identity and its streams, or give it another key."""
        return await tenants.change_identity(self.house, caller, tenant, wanted)

    # operation of the gateway itself

    async def ready(self) -> W.Readiness:
        """Whether it can serve now."""
        return await health.ready(self.house)

    async def metrics(self) -> Mapping[str, float]:
        """Gauges for the admin port."""
        return health.gauges(self.house)
