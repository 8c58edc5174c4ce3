"""Tokens and the caller's own identity (RFC 6749, 8693, 9396)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gateway.errors import InvalidInput
from gateway.wire import codec
from gateway.wire.access import AccessAsk, refuse_shards, require_counts

DETAIL_TYPE = "dataset_access"
GRANT_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
GRANT_TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105
TOKEN_TYPE_JWT = "urn:ietf:params:oauth:token-type:jwt"  # noqa: S105
LINEAGE_PATH = "/api/v1/lineage"  # where OpenLineage events come in
TOKEN_TYPE_ACCESS = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationDetail:
    """One RFC 9396 detail: a new ask, or the id of a Grant that stands."""

    type: str
    dataset: str | None = None
    actions: tuple[str, ...] = ("stream",)
    purpose: str | None = None
    columns: tuple[str, ...] | None = None
    split: str | None = None
    shards: tuple[int, ...] | None = None
    max_rows: int | None = None
    max_bytes: int | None = None
    max_epochs: int | None = None
    run: str | None = None
    grant: str | None = None
    parent: str | None = None  # a Grant of one's own: what is asked becomes a narrower one

    def __post_init__(self) -> None:
        if self.type != DETAIL_TYPE:
            raise InvalidInput(f"`{self.type[:40]}` is not a type of authorization details")
        if sum(name is not None for name in (self.dataset, self.grant, self.parent)) != 1:
            raise InvalidInput(
                "authorization details name either a `dataset`, a `grant` or a `parent`"
            )
        if len(self.actions) != 1:
            raise InvalidInput("authorization details name exactly one action")
        refuse_shards(self.shards)
        require_counts(self.max_rows, self.max_bytes, self.max_epochs)

    def ask(self) -> AccessAsk:
        """The AccessRequest in it; only when a dataset is named."""
        return AccessAsk(
            dataset=self.dataset or "",
            action=self.actions[0],
            purpose=self.purpose,
            columns=self.columns,
            split=self.split,
            shards=self.shards,
            max_rows=self.max_rows,
            max_bytes=self.max_bytes,
            max_epochs=self.max_epochs,
            run=self.run,
        )


def parse_details(text: str) -> AuthorizationDetail:
    """Read the form field `authorization_details`; exactly one detail, else InvalidInput."""
    if not text:
        raise InvalidInput("the field `authorization_details` is missing")
    value = codec.loads(text)
    if not isinstance(value, list) or len(value) != 1:
        raise InvalidInput("`authorization_details` must be a list with one object")
    return codec.decode(AuthorizationDetail, value[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenResponse:
    """The reply of the token endpoint."""

    access_token: str
    expires_in: int  # seconds
    token_type: str = "DPoP"  # noqa: S105
    issued_token_type: str = TOKEN_TYPE_ACCESS
    scope: str | None = None
    authorization_details: tuple[dict[str, Any], ...] = ()  # what was granted
    decision: str | None = None
    grant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Introspection:
    """RFC 7662 §2.2: what a token is good for; of one that is not, nothing but that."""

    active: bool
    iss: str | None = None
    aud: str | None = None
    sub: str | None = None
    client_id: str | None = None
    subject_type: str | None = None
    jti: str | None = None
    iat: int | None = None
    exp: int | None = None
    cnf: dict[str, Any] | None = None
    act: dict[str, Any] | None = None  # keys that act for the subject, the latest outside
    token_type: str | None = None
    scope: str | None = None  # `api`, or `stream`
    grant: str | None = None
    decision: str | None = None
    run: str | None = None
    authorization_details: tuple[dict[str, Any], ...] | None = None  # what it may open


@dataclass(frozen=True, slots=True, kw_only=True)
class WhoAmI:
    """What the gateway knows about the caller."""

    subject: str
    tenant: str
    type: str
    roles: tuple[str, ...]
    expires_at: str  # of the token used
    server_time: str
    attributes: dict[str, Any] = field(default_factory=dict)  # that a trusted issuer vouches for


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginProvider:
    """An OpenID provider that people log in at with `gateway login`; told to everybody."""

    issuer: str
    client_id: str
    scope: str
    resource: str | None = None  # RFC 8707: its access token is shown; without it the ID token


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """The gateway's public signing keys as JWKs, and its issuer name."""

    issuer: str
    keys: tuple[dict[str, Any], ...]
