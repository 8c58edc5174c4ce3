"""Tenants and identities."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantRequest:
    """`tenant add`; with a key its first owner `tenant/owner` is added too."""

    tenant: str
    owner_public_key: str | None = None  # base64url of the 32 raw Ed25519 bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantView:
    """A tenant as it is."""

    tenant: str
    suspended: bool
    datasets: int
    identities: int
    added_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRequest:
    """`identity add`."""

    identity: str  # the part after the slash: `ml`
    type: str  # person | job
    roles: tuple[str, ...]
    public_key: str  # base64url of the 32 raw Ed25519 bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityView:
    """An identity as it is."""

    identity: str  # tenant-qualified: `startup/ml`
    type: str
    roles: tuple[str, ...]
    thumbprint: str  # RFC 7638, of its public key
    disabled: bool
    added_at: str
