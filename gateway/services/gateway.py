"""The facade that doors call: one method per act, each the straight line of one journey.

Every method but the public ones takes the authenticated `caller` first, takes and returns
wire messages, and raises only GatewayError. Judging, recording and waiting for durability
happen in the services it names; doors only translate.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import gateway.wire as W
from gateway.domain.dataset import DatasetRef
from gateway.errors import AccessDenied, NotAuthenticated, Unavailable
from gateway.services import (
    audit,
    claims,
    consents,
    describe,
    evidence,
    exchange,
    grants,
    health,
    issued_tokens,
    lineage_keys,
    obligations,
    proofs,
    refusals,
    register,
    reports,
    revoke,
    runs,
    shapes,
    stream,
    tenants,
    update,
    update_tenant,
    uploads,
    whole_stream,
)
from gateway.services.asking import Asking
from gateway.services.copies import Copies
from gateway.services.custody import Custody
from gateway.services.house import House
from gateway.services.policies import Policies
from gateway.services.request_access import Caller
from gateway.wire.leases import LeaseRequest, LeaseView
from gateway.wire.times import iso
from gateway.wire.tokens import LINEAGE_PATH

# All that a dataset token is good for.
STREAM_PATHS = ("/v1/leases", "/oauth/revoke", "/oauth/introspect")


@dataclass(slots=True)
class Gateway(Asking, Copies, Custody, Policies):
    """All journeys over one House."""

    house: House

    # who is calling

    async def authenticate(
        self, method: str, url: str, authorization: str | None, dpop: str | None
    ) -> Caller:
        """The caller behind a DPoP-bound token; NotAuthenticated otherwise."""
        try:
            if (method, urlsplit(url).path) == ("POST", LINEAGE_PATH) and dpop is None:
                return lineage_keys.authenticate(self.house, authorization)
            caller = exchange.authenticate(self.house, (method, url), authorization, dpop)
        except NotAuthenticated as error:
            await refusals.record_stranger(self.house, "/v1", error.code)
            raise
        if caller.grant is not None and not urlsplit(url).path.startswith(STREAM_PATHS):
            await refusals.record(self.house, caller.subject, "/v1", AccessDenied.code)
            raise AccessDenied("a dataset token opens streams only", advice="use your API token")
        return caller

    async def token(self, form: Mapping[str, str], url: str, dpop: str | None) -> W.TokenResponse:
        """POST /oauth/token: an assertion, or an exchange for a dataset token."""
        try:
            return await exchange.token(self.house, form, url, dpop)
        except (NotAuthenticated, Unavailable) as error:
            await refusals.record_stranger(self.house, "POST /oauth/token", error.code)
            raise

    async def revoke_token(self, caller: Caller, token: str) -> None:
        """POST /oauth/revoke: end one token, and all that came of it, before its time."""
        await issued_tokens.revoke_token(self.house, caller, token)

    async def introspect(self, caller: Caller, token: str) -> W.Introspection:
        """POST /oauth/introspect: what a token is good for now."""
        return await issued_tokens.introspect(self.house, caller, token)

    async def whoami(self, caller: Caller) -> W.WhoAmI:
        """Who the token says one is."""
        subject = caller.subject
        return W.WhoAmI(
            subject=subject.id,
            tenant=subject.tenant,
            type=subject.type,
            roles=subject.roles,
            expires_at=iso(caller.expires_at),
            server_time=iso(self.house.now()),
        )

    def public_keys(self) -> W.KeySet:
        """Keys that verify our tokens, leases and log (JWKS and pins)."""
        return exchange.public_keys(self.house)

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
            run=wanted.run,
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

    # streams

    async def open_lease(self, caller: Caller, wanted: LeaseRequest) -> LeaseView:
        """Open a stream under a dataset token."""
        return await stream.open_lease(self.house, caller, wanted)

    async def lease(self, caller: Caller, lease: str) -> LeaseView:
        """An open lease (without its key)."""
        return await stream.show(self.house, caller, lease)

    async def stream_address(self, caller: Caller, lease: str) -> str:
        """Where a lease is read whole, once, within a minute."""
        return await whole_stream.address(self.house, caller, lease)

    async def renew_lease(self, caller: Caller, lease: str) -> LeaseView:
        """Judge again and prolong."""
        return await stream.renew(self.house, caller, lease)

    async def close_lease(self, caller: Caller, lease: str) -> None:
        """Hand the lease back."""
        await stream.close(self.house, caller, lease)

    # runs

    async def runs(self, caller: Caller) -> list[W.RunView]:
        """Training jobs that read from or for the tenant."""
        return await runs.list_(self.house, caller)

    async def run(self, caller: Caller, run: str) -> W.RunView:
        """One training job."""
        return await runs.show(self.house, caller, run)

    async def finish_run(self, caller: Caller, run: str, wanted: W.RunFinish) -> W.RunView:
        """Say that it is over, and which model it made."""
        return await runs.finish(self.house, caller, run, wanted)

    async def attestation(self, caller: Caller, run: str) -> W.Attestation:
        """What it was delivered, signed and bound to its model."""
        return await runs.attestation(self.house, caller, run)

    # consent

    async def consents(self, caller: Caller) -> list[W.ConsentView]:
        """The newest word of each person."""
        return await consents.list_(self.house, caller)

    async def record_consents(self, caller: Caller, wanted: W.ConsentRequest) -> W.ConsentReceipt:
        """Record what persons gave and withdrew."""
        return await consents.record(self.house, caller, wanted)

    # lineage

    async def questions(self, caller: Caller) -> list[W.Question]:
        """The named questions."""
        return await audit.questions(self.house, caller)

    async def ask(self, caller: Caller, name: str, asked: W.AskRequest) -> W.Answer:
        """Ask one of them; the question is recorded first."""
        return await audit.ask(self.house, caller, name, asked)

    async def query(self, caller: Caller, asked: W.QueryRequest) -> W.Answer:
        """Run an auditor's SQL in the sandbox; recorded first."""
        return await audit.query(self.house, caller, asked)

    async def trace(self, caller: Caller, ref: str, depth: int) -> W.Trace:
        """Where something came from and went to."""
        return await audit.trace(self.house, caller, ref, depth)

    async def claim(self, caller: Caller, raw: bytes) -> W.ClaimReceipt:
        """Record what an OpenLineage event says."""
        return await claims.take(self.house, caller, raw)

    async def report(self, caller: Caller, name: str, wanted: W.ReportRequest) -> W.Report:
        """Several questions in one document; recorded first."""
        return await reports.make(self.house, caller, name, wanted)

    async def checkpoint(self, caller: Caller, since: int | None) -> W.CheckpointView:
        """The newest signed LogCheckpoint; with `since`, the proof that it continues that one."""
        return await proofs.checkpoint(self.house, caller, since)

    async def inclusion(self, caller: Caller, index: int, size: int | None) -> W.Proof:
        """Proof that an event stands in the log."""
        return await proofs.inclusion(self.house, caller, index, size)

    async def consistency(self, caller: Caller, first: int, second: int | None) -> W.Proof:
        """Proof that the log only grew."""
        return await proofs.consistency(self.house, caller, first, second)

    async def evidence(self, caller: Caller, wanted: W.EvidenceRequest) -> W.Operation:
        """Make an EvidencePack; an Operation."""
        return shapes.operation_view(await evidence.export(self.house, caller, wanted))

    async def evidence_part(self, caller: Caller, pack: str, start: int) -> bytes:
        """Bytes of one that is made."""
        return await evidence.part(self.house, caller, pack, start)

    async def verify(self, caller: Caller, since: int | None) -> W.Operation:
        """Verify the whole log on the server; an Operation."""
        return shapes.operation_view(await audit.verify(self.house, caller, since))

    # tenants

    async def tenants(self, caller: Caller) -> list[W.TenantView]:
        """Tenants the caller may see."""
        return await tenants.views(self.house, caller)

    async def tenant(self, caller: Caller, tenant: str) -> W.TenantView:
        """One tenant."""
        return await tenants.view(self.house, caller, tenant)

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

    async def disable_identity(
        self, caller: Caller, tenant: str, wanted: W.IdentityChange
    ) -> W.IdentityDisabled:
        """End an identity and its streams."""
        return await tenants.disable_identity(self.house, caller, tenant, wanted)

    # operation of the gateway itself

    async def ready(self) -> W.Readiness:
        """Whether it can serve now."""
        return await health.ready(self.house)

    async def metrics(self) -> Mapping[str, float]:
        """Gauges for the admin port."""
        return health.gauges(self.house)
