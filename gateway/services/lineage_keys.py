"""Lineage keys: with one an unmodified OpenLineage client claims lineage in an identity's name.

Such a client can only send `Authorization: Bearer …`. The key was signed by the identity's own
key, names this gateway's one route and its own end, and is kept nowhere here. It is refused at
every other route, and ends early when it is revoked or the identity is disabled or gets another
key.
"""

from __future__ import annotations

from gateway.crypto.identity_keys import LineageKey, verify_lineage_key
from gateway.domain.events import EventDraft, EventKind
from gateway.errors import NotAuthenticated
from gateway.services import exchange
from gateway.services.house import House
from gateway.services.request_access import Caller
from gateway.wire.tokens import LINEAGE_PATH


def authenticate(house: House, authorization: str | None) -> Caller:
    """The caller behind `Authorization: Bearer <lineage key>`; NotAuthenticated otherwise."""
    scheme, _, text = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not text:
        raise NotAuthenticated(
            "a lineage key, or a DPoP-bound access token and its proof, is needed",
            advice="`gateway lineage key` makes a key for OpenLineage clients",
        )
    found = _verified(house, text)
    subject = exchange.living_subject(house, found.identity)
    return Caller(subject=subject, jti=found.jti, expires_at=found.expires_at)


async def revoke(house: House, caller: Caller, text: str) -> None:
    """End one of the caller's own keys, durably; silence for anything else (RFC 7009)."""
    try:
        found = _verified(house, text)
    except NotAuthenticated:
        return
    if found.identity == caller.subject.id:
        await house.recorded(
            EventDraft(
                kind=EventKind.TokenRevoked,
                owner_tenant=caller.subject.tenant,
                actor_tenant=caller.subject.tenant,
                actor=caller.subject.id,
                facts={"jti": found.revocable, "expires_at": found.expires_at},
            )
        )


def _verified(house: House, text: str) -> LineageKey:
    audience = house.issuer + LINEAGE_PATH
    found = verify_lineage_key(text, house.identity_key, audience, house.now)
    if house.catalog.is_token_revoked(found.revocable):
        raise NotAuthenticated("this key was revoked", advice="make a new one")
    return found
