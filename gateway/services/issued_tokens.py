"""Tokens after they were issued: what one is good for (RFC 7662), and its end (RFC 7009).

A token ends with every one it was exchanged for, as a tree: revoking one ends the tokens that
were had for it, the Grants that were cut from its Grant, and the streams of all of these. Its
own Grant stays: it is shared by all ranks of a run, and its owner takes it back.
"""

from __future__ import annotations

import gateway.wire as W
from gateway.crypto.tokens import BEARER, TOKEN_SECONDS_MAX, TokenClaims, actors
from gateway.domain.access import Resource
from gateway.domain.events import EventDraft, EventKind
from gateway.domain.lease import Grant
from gateway.errors import LeaseExpired, LeaseRevoked, NotAuthenticated, NotFound
from gateway.services import down_scope, exchange, lineage_keys, refusals, revoke
from gateway.services.house import PLATFORM, House
from gateway.services.request_access import Caller, may
from gateway.services.stopping import stop_streams

_ROUTE = "/oauth/introspect"


async def introspect(house: House, caller: Caller, token: str) -> W.Introspection:
    """What a token is good for now; inactive for whoever has no business with it.

    That is its subject, an owner of the subject's tenant, and the operator of the platform.
    What they may not see, what ended and what never was one answer and are recorded alike.
    """
    try:
        claims = exchange.verified(house, token)
        exchange.living_subject(house, claims.subject)
        grant = _living_grant(house, claims)
    except (NotAuthenticated, NotFound, LeaseRevoked, LeaseExpired):
        claims = None
    if claims is None or not _may_see(house, caller, claims):
        await refusals.record(house, caller.subject, _ROUTE, NotFound.code)
        return W.Introspection(active=False)
    await house.settled()
    return W.Introspection(
        active=True,
        iss=claims.issuer,
        aud=claims.audience,
        sub=claims.subject,
        client_id=claims.subject,
        subject_type=claims.type,
        jti=claims.jti,
        iat=claims.issued_at,
        exp=claims.expires_at,
        cnf={"jkt": claims.thumbprint} if claims.thumbprint else None,
        token_type="DPoP" if claims.thumbprint else BEARER,
        act=actors(claims.act),
        scope="stream" if grant else "api",
        grant=claims.grant,
        decision=claims.decision,
        run=claims.run,
        authorization_details=(exchange.granted(grant),) if grant else None,
    )


def _living_grant(house: House, claims: TokenClaims) -> Grant | None:
    if claims.grant is None:
        return None
    subject = exchange.living_subject(house, claims.subject)
    return down_scope.own_grant(house, subject, claims.grant)


def _may_see(house: House, caller: Caller, claims: TokenClaims) -> bool:
    if caller.subject.id == claims.subject:
        return True
    if caller.grant is not None:
        return False
    if caller.subject.tenant == PLATFORM:
        return may(house, caller, "operate", Resource(tenant=PLATFORM))
    return caller.subject.tenant == claims.tenant and may(
        house, caller, "update", Resource(tenant=claims.tenant)
    )


async def revoke_token(house: House, caller: Caller, token: str) -> None:
    """End one of the caller's own tokens (or lineage keys), durably, with all that came of it.

    Silence for anything else (RFC 7009). A token that was had for this one lives no longer
    than TOKEN_SECONDS_MAX from now: so long the revocation is remembered.
    """
    try:
        claims = exchange.verified(house, token)
    except NotAuthenticated:
        await lineage_keys.revoke(house, caller, token)
        return
    if claims.subject != caller.subject.id:
        return
    remembered = max(claims.expires_at, int(house.now()) + TOKEN_SECONDS_MAX)
    house.record(
        EventDraft(
            kind=EventKind.TokenRevoked,
            owner_tenant=caller.subject.tenant,
            actor_tenant=caller.subject.tenant,
            actor=caller.subject.id,
            facts={"jti": claims.jti, "expires_at": remembered},
        )
    )
    children = revoke.cut_from(house, {claims.grant}) if claims.grant is not None else []
    revoke.record(house, caller, children, "the token it was cut with was revoked")
    await house.settled()
    ended = {grant.id for grant in children}
    leases = {lease.id for lease in house.catalog.leases() if lease.grant in ended}
    await stop_streams(house, {*leases, *house.workers.opened_with(claims.jti)}, "token-revoked")
    await house.settled()
