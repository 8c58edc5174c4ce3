"""Tenants, identities, operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import gateway.wire as W
from gateway.client.records import Record, Table
from gateway.client.targets import segment

if TYPE_CHECKING:
    from gateway.client.client import GatewayClient


class TenantLimits(TypedDict, total=False):
    """What an operator may bound; what is absent or None stays as it is."""

    max_streams: int | None  # open at once, of all its persons and jobs
    requests_per_minute: int | None
    max_bytes: int | None  # delivered to it in one day (UTC)
    max_stored_bytes: int | None  # sealed, of its datasets
    retention_days: int | None  # of the details of its history; at least 183


class Tenants:
    """`gw.tenants`."""

    def __init__(self, gateway: GatewayClient) -> None:
        """Belong to a client."""
        self._gateway = gateway

    def add(self, tenant: str, *, owner_key: str | None = None) -> Record:
        """Add a tenant; with a public key (base64url) also its owner `tenant/owner`."""
        request = W.TenantRequest(tenant=tenant, owner_public_key=owner_key)
        return Record(self._gateway.post("/v1/tenants", request), self._gateway)

    def list(self) -> Table:
        """The tenants that we may see."""
        return self._gateway.all_of("/v1/tenants")

    def show(self, tenant: str) -> Record:
        """One tenant, with its limits."""
        return Record(self._gateway.get(f"/v1/tenants/{segment(tenant)}"), self._gateway)

    def update(
        self,
        tenant: str,
        *,
        lift: Sequence[str] = (),
        dry_run: bool = False,
        **limits: Unpack[TenantLimits],
    ) -> Record:
        """Set limits by name, and `lift` those that shall hold no longer; operators only.

        `expires` of the answer lists the months of history whose details go; with `dry_run`
        nothing is changed.
        """
        changes = W.TenantChanges(lift=tuple(lift), dry_run=dry_run, **limits)
        return self._change(tenant, changes)

    def suspend(self, tenant: str, *, reason: str | None = None) -> Record:
        """Let in nobody of it and release nothing of its data; says what was stopped."""
        return self._change(tenant, W.TenantChanges(suspended=True, reason=reason))

    def resume(self, tenant: str, *, reason: str | None = None) -> Record:
        """Undo a suspension: identities, Grants and rules are as before."""
        return self._change(tenant, W.TenantChanges(suspended=False, reason=reason))

    def _change(self, tenant: str, changes: W.TenantChanges) -> Record:
        path = f"/v1/tenants/{segment(tenant)}"
        reply = self._gateway.transport.request("PATCH", path, json=changes)
        return Record(reply.json(), self._gateway)


class Identities:
    """`gw.identities`."""

    def __init__(self, gateway: GatewayClient) -> None:
        """Belong to a client."""
        self._gateway = gateway

    def add(
        self,
        identity: str,
        *,
        public_key: str | None = None,
        roles: Sequence[str] = (),
        type: str = "person",  # noqa: A002 - the same word as in the CLI and in JSON
    ) -> Record:
        """Add `tenant/name` with its public key (base64url of 32 bytes); never a private key.

        Without a key only a trusted issuer can say that somebody is it.
        """
        tenant, _, name = identity.partition("/")
        request = W.IdentityRequest(
            identity=name, type=type, roles=tuple(roles), public_key=public_key
        )
        path = f"/v1/tenants/{segment(tenant)}/identities"
        return Record(self._gateway.post(path, request), self._gateway)

    def list(self, *, tenant: str | None = None) -> Table:
        """A tenant's identities (default: our own tenant's)."""
        owner = tenant or str(self._gateway.whoami().tenant)
        return self._gateway.all_of(f"/v1/tenants/{segment(owner)}/identities")

    def disable(self, identity: str) -> Record:
        """End `tenant/name` for good: its keys, tokens and streams; says what it stopped."""
        return self._change(identity, disabled=True)

    def rotate(self, identity: str, *, public_key: str) -> Record:
        """Give `tenant/name` another key; the one before is refused at once."""
        return self._change(identity, public_key=public_key)

    def _change(self, identity: str, **what: Any) -> Record:
        tenant, _, name = identity.partition("/")
        change = W.IdentityChange(identity=name, **what)
        path = f"/v1/tenants/{segment(tenant)}/identities"
        reply = self._gateway.transport.request("PATCH", path, json=change)
        return Record(reply.json(), self._gateway)


class Operations:
    """`gw.operations`."""

    def __init__(self, gateway: GatewayClient) -> None:
        """Belong to a client."""
        self._gateway = gateway

    def list(self) -> Table:
        """Our long acts, newest first."""
        return self._gateway.all_of("/v1/operations")

    def show(self, operation: str) -> Record:
        """How far one is."""
        return Record(self._gateway.get(f"/v1/operations/{segment(operation)}"), self._gateway)
