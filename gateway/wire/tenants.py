"""Tenants and identities."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.errors import InvalidInput


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
    max_streams: int | None = None
    requests_per_minute: int | None = None
    max_bytes: int | None = None
    max_stored_bytes: int | None = None
    open_streams: int | None = None  # this and the next two: of `tenant show` only
    bytes_today: int | None = None  # delivered to it (UTC)
    stored_bytes: int | None = None  # sealed, of its datasets
    retention_days: int | None = None  # None: the gateway's default
    expired: tuple[str, ...] = ()  # months whose details are gone: `2026-01`
    expires: tuple[str, ...] = ()  # months that go within the hour, or would by a dry run
    streams_stopped: int | None = None  # by this very suspension
    slowest_ms: float | None = None  # from the durable event to the last byte of the slowest


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantChanges:
    """`tenant update|suspend|resume`: what is None stays."""

    max_streams: int | None = None  # open at once, of all its persons and jobs
    requests_per_minute: int | None = None
    max_bytes: int | None = None  # delivered to it in one day (UTC)
    max_stored_bytes: int | None = None  # sealed, of its datasets
    retention_days: int | None = None  # of the details of its history; at least 183
    lift: tuple[str, ...] = ()  # limits by name that hold no longer
    suspended: bool | None = None
    reason: str | None = None
    dry_run: bool = False  # says what would expire, and changes nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRequest:
    """`identity add`."""

    identity: str  # the part after the slash: `ml`
    type: str  # person | job
    roles: tuple[str, ...]
    public_key: str | None = None  # base64url of the 32 raw Ed25519 bytes; None: a trusted
    # issuer vouches for it, and nobody holds a key of it


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityView:
    """An identity as it is."""

    identity: str  # tenant-qualified: `startup/ml`
    type: str
    roles: tuple[str, ...]
    thumbprint: str | None  # RFC 7638, of its public key; None: it has none
    disabled: bool
    added_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityChange:
    """`identity disable` (for good) or `identity rotate` (`public_key`): one of them."""

    identity: str  # the part after the slash: `ml`
    disabled: bool | None = None
    public_key: str | None = None  # takes the place of the one before, which counts no more

    def __post_init__(self) -> None:
        if (self.disabled is None) == (self.public_key is None):
            raise InvalidInput("name either `disabled` or a `public_key`")
        if self.disabled is False:
            raise InvalidInput(
                "a disabled identity stays so", advice="add another identity for the same person"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityChanged:
    """An identity that was disabled or got another key, and what that stopped."""

    identity: str  # tenant-qualified: `startup/ml`
    disabled: bool
    thumbprint: str | None  # of its key
    streams_stopped: int
    slowest_ms: float  # from the durable event to the last byte of the slowest of them
