"""Tenants, identities, operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import gateway.wire as W
from gateway.client.records import Record, Table
from gateway.client.transport import segment

if TYPE_CHECKING:
    from gateway.client.client import GatewayClient


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


class Identities:
    """`gw.identities`."""

    def __init__(self, gateway: GatewayClient) -> None:
        """Belong to a client."""
        self._gateway = gateway

    def add(
        self,
        identity: str,
        *,
        public_key: str,
        roles: Sequence[str] = (),
        type: str = "person",  # noqa: A002 - the same word as in the CLI and in JSON
    ) -> Record:
        """Add `tenant/name` with its public key (base64url of 32 bytes); never a private key."""
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
        tenant, _, name = identity.partition("/")
        change = W.IdentityChange(identity=name, disabled=True)
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
