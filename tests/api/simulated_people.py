"""The simulator's part about tokens, tenants and identities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gateway.wire as W
from gateway.domain.access import Subject
from gateway.domain.dataset import parse_name
from gateway.domain.tenant import TenantLimits
from gateway.errors import (
    AccessDenied,
    Conflict,
    NotFound,
)
from tests.api.simulated_datasets import NOW


class SimulatedPeople:
    """Everybody may look; only operators add and change tenants."""

    subjects: dict[str, Subject]
    known_tenants: dict[str, W.TenantView]
    known: dict[str, W.IdentityView]
    durable: int
    issuer: str

    async def revoke_token(self, caller: Any, token: str) -> None:
        self.durable += 1

    async def introspect(self, caller: Any, token: str) -> W.Introspection:
        who = self.subjects.get(token)
        if who is None or who.id != caller.subject.id:
            return W.Introspection(active=False)
        return W.Introspection(active=True, sub=who.id, scope="api")

    async def whoami(self, caller: Any) -> W.WhoAmI:
        who = caller.subject
        return W.WhoAmI(
            subject=who.id,
            tenant=who.tenant,
            type=who.type,
            roles=who.roles,
            expires_at=NOW,
            server_time=NOW,
        )

    def public_keys(self) -> W.KeySet:
        return W.KeySet(issuer=self.issuer, keys=({"kty": "OKP", "crv": "Ed25519", "x": "AA"},))

    def login_providers(self) -> tuple[W.LoginProvider, ...]:
        return ()

    async def tenants(self, caller: Any) -> Sequence[W.TenantView]:
        return tuple(self.known_tenants.values())

    async def tenant(self, caller: Any, tenant: str) -> W.TenantView:
        if tenant not in self.known_tenants:
            raise NotFound(f"no tenant `{tenant}`")
        return self.known_tenants[tenant]

    async def add_tenant(self, caller: Any, request: W.TenantRequest) -> W.TenantView:
        if "operator" not in caller.subject.roles:
            raise AccessDenied("only an operator adds tenants", decision="dec_x")
        name = parse_name(request.tenant, what="tenant")
        if name in self.known_tenants:
            raise Conflict(f"`{name}` is there already")
        view = W.TenantView(tenant=name, suspended=False, datasets=0, identities=0, added_at=NOW)
        self.known_tenants[name] = view
        self.durable += 1
        return view

    async def update_tenant(
        self, caller: Any, tenant: str, changes: W.TenantChanges
    ) -> W.TenantView:
        found = await self.tenant(caller, tenant)
        if "operator" not in caller.subject.roles:
            raise AccessDenied("only an operator changes tenants", decision="dec_x")
        given = {name: getattr(changes, name) for name in TenantLimits.names()}
        if changes.suspended is not None:
            given["suspended"] = changes.suspended
        given = {name: value for name, value in given.items() if value is not None}
        changed = replace(found, **dict.fromkeys(changes.lift), **given)
        self.known_tenants[tenant] = changed
        return replace(changed, streams_stopped=0, slowest_ms=0.0) if changes.suspended else changed

    async def identities(self, caller: Any, tenant: str) -> Sequence[W.IdentityView]:
        return tuple(v for k, v in self.known.items() if k.startswith(tenant + "/"))

    async def change_identity(
        self, caller: Any, tenant: str, change: W.IdentityChange
    ) -> W.IdentityChanged:
        name = f"{tenant}/{parse_name(change.identity, what='identity')}"
        if name not in self.known:
            raise NotFound(f"no identity `{name[:80]}`")
        return W.IdentityChanged(
            identity=name,
            disabled=bool(change.disabled),
            thumbprint=change.public_key,
            streams_stopped=0,
            slowest_ms=0.0,
        )

    async def add_identity(
        self, caller: Any, tenant: str, request: W.IdentityRequest
    ) -> W.IdentityView:
        name = f"{tenant}/{parse_name(request.identity, what='identity')}"
        view = W.IdentityView(
            identity=name,
            type=request.type,
            roles=request.roles,
            thumbprint="t",
            disabled=False,
            added_at=NOW,
        )
        self.known[name] = view
        return view
