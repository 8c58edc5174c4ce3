"""A small OAuth 2 authorization server: who are you (assertion), what may you do (exchange).

RFC 7523 assertion by a local key file → API token; a token of a trusted issuer → the same, or
at once a dataset token; RFC 8693 exchange of an API token with
RFC 9396 `dataset_access` details → dataset token, after the judge allowed it. Every token is
an RFC 9068 `at+jwt`, EdDSA, at most ten minutes, bound to the DPoP key (RFC 9449) of its user.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Mapping
from typing import Any

import gateway.wire as W
from gateway.crypto import delegations, tokens
from gateway.crypto.tokens import BEARER, TokenClaims
from gateway.domain.access import Limits, Scalar, Subject
from gateway.domain.events import EventDraft, EventKind
from gateway.domain.lease import Grant
from gateway.errors import AccessDenied, InvalidInput, NotAuthenticated, NotFound
from gateway.services import (
    bearers,
    down_scope,
    rates,
    refusals,
    request_access,
    revoke,
    shapes,
    signing_keys,
    stream,
)
from gateway.services.house import House
from gateway.services.request_access import Ask, Caller
from gateway.wire import codec
from gateway.wire.tokens import TOKEN_TYPE_ACCESS, TOKEN_TYPE_JWT, parse_details

GRANT_ASSERTION = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ROUTE = "POST /oauth/token"
RESUMES = "ask an operator of the gateway, who can resume it"
GRANT_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


def authenticate(
    house: House, request: tuple[str, str], authorization: str | None, dpop: str | None
) -> Caller:
    """The caller behind `Authorization: DPoP <token>` and its proof; NotAuthenticated otherwise.

    Args:
        house: the rooms.
        request: HTTP method and full URL as the client sent it (RFC 9449 `htm`, `htu`).
        authorization: the header.
        dpop: the proof header.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() == "bearer" and dpop is None:
        return _carrier(house, token)
    if scheme.lower() != "dpop" or not token or dpop is None:
        raise NotAuthenticated("a DPoP-bound access token and its proof are needed")
    claims = verified(house, token)
    thumbprint = _proof(house, dpop, request, token)
    claims.require_bound_to(thumbprint)
    return _caller(house, claims)


def _carrier(house: House, token: str) -> Caller:
    """Whoever brings a token that needs no proof; the operator named its client."""
    claims = verified(house, token)
    bearers.require_named(house, claims.subject if not claims.thumbprint else "")
    return _caller(house, claims)


def _caller(house: House, claims: TokenClaims) -> Caller:
    return Caller(
        subject=living_subject(house, claims.subject, _vouched(house, claims)),
        jti=claims.jti,
        grant=claims.grant,
        thumbprint=claims.thumbprint,
        expires_at=claims.expires_at,
        chain=claims.chain,
        act=claims.act,
    )


def _proof(house: House, dpop: str, request: tuple[str, str], token: str | None) -> str:
    return tokens.verify_proof(dpop, request, token, house.now, house.replay.seen, house.nonce)


def verified(house: House, token: str) -> TokenClaims:
    """The claims of one of our tokens; neither it nor one it was exchanged for was revoked."""
    claims = house.verified.claims_of(token, house.now(), lambda text: _read(house, text))
    if any(map(house.catalog.is_token_revoked, claims.chain)):
        raise NotAuthenticated("this token was revoked", advice="ask for a new one")
    _require_present_key(house, claims)
    return claims


def _read(house: House, token: str) -> TokenClaims:
    return tokens.verify(token, signing_keys.verifying(house), house.issuer, house.now)


def _require_present_key(house: House, claims: TokenClaims) -> None:
    """What was had with a key that was renewed since is worth nothing."""
    try:
        since = house.catalog.identity(claims.subject).rotated_at
    except NotFound as cause:
        raise NotAuthenticated("this identity is not known") from cause
    if claims.issued_at <= int(since):
        raise NotAuthenticated("the key of this identity was renewed", advice="use the new key")


def _vouched(house: House, claims: TokenClaims) -> Mapping[str, Scalar]:
    """What an issuer vouched for when it stood behind this token; ours does not carry it."""
    if claims.grant is None:
        return house.catalog.vouched(claims.jti)
    try:
        return house.catalog.grant(claims.grant).attributes
    except NotFound:
        return {}  # erased, and so it opens nothing


def living_subject(
    house: House, identity_id: str, attributes: Mapping[str, Scalar] | None = None
) -> Subject:
    """Roles come from the catalogue as it is now, never from the token."""
    try:
        identity = house.catalog.identity(identity_id)
    except NotFound as cause:
        raise NotAuthenticated("this identity is not known") from cause
    if identity.disabled:
        raise NotAuthenticated("this identity was disabled", advice="ask your tenant's owner")
    if house.catalog.tenant(identity.tenant).suspended:
        raise NotAuthenticated(f"tenant `{identity.tenant}` is suspended", advice=RESUMES)
    return Subject(
        id=identity.id,
        tenant=identity.tenant,
        type=identity.type,
        roles=tuple(identity.roles),
        attributes=attributes or {},
    )


async def token(
    house: House, form: Mapping[str, str], url: str, dpop: str | None
) -> W.TokenResponse:
    """POST /oauth/token."""
    thumbprint = _proof(house, dpop, ("POST", url), None) if dpop is not None else ""
    match form.get("grant_type"):
        case "urn:ietf:params:oauth:grant-type:jwt-bearer":
            return await _from_assertion(house, form, thumbprint)
        case "urn:ietf:params:oauth:grant-type:token-exchange":
            return await _from_exchange(house, form, thumbprint)
        case other:
            raise InvalidInput(
                f"`{str(other)[:80]}` is not a grant type",
                advice=f"use {GRANT_ASSERTION} or {GRANT_EXCHANGE}",
            )


async def _from_assertion(
    house: House, form: Mapping[str, str], thumbprint: str
) -> W.TokenResponse:
    if not thumbprint:
        raise NotAuthenticated("tokens are bound to a DPoP key: send a proof")
    claimed = tokens.verify_assertion(
        form.get("assertion", ""), house.identity_key, house.issuer, house.now, house.replay.seen
    )
    if claimed.dpop_thumbprint != thumbprint:
        raise NotAuthenticated("the assertion names another DPoP key than the proof's")
    subject = living_subject(house, claimed.identity)
    await rates.count(house, subject, ROUTE)
    by = f"key:{claimed.thumbprint}"
    caller = Caller(subject=subject, jti="", thumbprint=thumbprint, vouched_by=by)
    return await _issue(house, caller, None)


async def _from_exchange(house: House, form: Mapping[str, str], thumbprint: str) -> W.TokenResponse:
    if "actor_token" in form:
        caller, form = _delegated(house, form, thumbprint)
    else:
        caller = await _presented(house, form, thumbprint)
    await rates.count(house, caller.subject, ROUTE)
    tokens.require_short(caller.chain)
    _require_served(house, form)
    if not thumbprint or form.get("token_type") == BEARER:
        caller = _without_key(house, caller, form)
    if caller.jti == "" and "authorization_details" not in form:
        return await _issue(house, caller, None)
    details = parse_details(form.get("authorization_details", ""))
    if caller.grant is not None:
        await _require_part_of(house, caller, details)
    if details.grant is not None:
        grant = await down_scope.required(house, caller.subject, details.grant)
        await stream.require_released(house, grant)
        if caller.subject.attributes != grant.attributes:  # the issuer says otherwise by now
            await stream.judge_again(house, grant, caller.subject.attributes)
    else:
        _, grant = await request_access.begin_grant(house, caller, _ask(details))
    await _require_unrevoked(house, caller, grant)
    return await _issue(house, caller, grant)


def _require_served(house: House, form: Mapping[str, str]) -> None:
    """What is asked for another place, or as another kind of token, is not quietly ours."""
    for name, served, error in (
        ("audience", house.issuer, "invalid_target"),
        ("resource", house.issuer, "invalid_target"),
        ("requested_token_type", TOKEN_TYPE_ACCESS, "invalid_request"),
    ):
        if form.get(name, served) != served:
            raise InvalidInput(
                f"`{form[name][:80]}` is not served as `{name}`",
                advice=f"leave it out, or send {served}",
                oauth=error,
            )


async def _require_unrevoked(house: House, caller: Caller, grant: Grant) -> None:
    """Whoever revoked the token while it was exchanged revoked what is being cut with it."""
    if not any(map(house.catalog.is_token_revoked, caller.chain)):
        return
    if caller.grant not in (None, grant.id):
        revoke.record(house, caller, [grant], "the token it was cut with was revoked")
        await house.settled()
    raise NotAuthenticated("this token was revoked", advice="ask for a new one")


def _delegated(
    house: House, form: Mapping[str, str], thumbprint: str
) -> tuple[Caller, Mapping[str, str]]:
    """A token of another key, whose key states that this one may have a part of it."""
    if "authorization_details" in form or not thumbprint:
        raise InvalidInput(
            "with `actor_token` a proof is sent, and the statement names what is asked",
            advice="leave `authorization_details` out of the form",
        )
    given = form.get("subject_token", "")
    claims = verified(house, given)
    detail = delegations.verify(
        form["actor_token"],
        given,
        (claims.thumbprint, thumbprint),
        delegations.Place(audience=house.issuer, nonce=house.nonce),
        house.now,
        house.replay.seen,
    )
    caller = _caller(house, claims)
    delegated = dataclasses.replace(caller, thumbprint=thumbprint, act=(thumbprint, *caller.act))
    return delegated, {**form, "authorization_details": json.dumps([detail])}


def _without_key(house: House, caller: Caller, form: Mapping[str, str]) -> Caller:
    bearers.require_named(house, caller.subject.id)
    if "authorization_details" not in form:
        raise InvalidInput(
            "a token without a key is for one grant",
            advice="send `authorization_details` of the dataset, or of the grant",
        )
    return dataclasses.replace(caller, thumbprint="")


async def _require_part_of(house: House, caller: Caller, details: W.AuthorizationDetail) -> None:
    """A dataset token gives no more than its Grant: only that one, or what is cut from it."""
    named = details.grant or details.parent
    try:
        chain = house.lineage_of(house.catalog.grant(named)) if named is not None else []
    except NotFound:
        chain = []
    if caller.grant not in {link.id for link in chain}:
        await refusals.record(house, caller.subject, "POST /oauth/token", AccessDenied.code)
        raise AccessDenied(
            "a dataset token is exchanged for its own grant, or for a part of it",
            advice=f'name `"parent": "{caller.grant}"`, or use your API token',
        )


async def _presented(house: House, form: Mapping[str, str], thumbprint: str) -> Caller:
    """Whom the subject_token stands for.

    Ours is sender-bound and exchanged only by its own key: no laundering. One of a trusted
    issuer has no `jti` of ours; what comes of it is bound to the key of the proof.
    """
    given = form.get("subject_token", "")
    match form.get("subject_token_type", TOKEN_TYPE_ACCESS):
        case "urn:ietf:params:oauth:token-type:access_token":
            claims = verified(house, given)
            claims.require_bound_to(thumbprint)
            return _caller(house, claims)
        case "urn:ietf:params:oauth:token-type:jwt":
            found = await house.issuers.vouch(given, house.now)
            subject = living_subject(house, found.identity, found.attributes)
            return Caller(subject=subject, jti="", thumbprint=thumbprint, vouched_by=found.issuer)
        case other:
            raise InvalidInput(
                f"`{other[:80]}` is not a type of subject token",
                advice=f"use {TOKEN_TYPE_ACCESS} or {TOKEN_TYPE_JWT}",
            )


def _ask(details: W.AuthorizationDetail) -> Ask:
    if len(details.actions) != 1:
        raise InvalidInput("a dataset_access detail names one action")
    return Ask(
        dataset=details.dataset or "",
        parent=details.parent,
        action=details.actions[0],
        purpose=details.purpose,
        columns=details.columns,
        split=details.split,
        limits=Limits(
            max_rows=details.max_rows,
            max_bytes=details.max_bytes,
            max_epochs=details.max_epochs,
        ),
        run=details.run,
    )


async def _issue(house: House, caller: Caller, grant: Grant | None) -> W.TokenResponse:
    """Record, then sign; the token exists only after its event is durable."""
    subject, now = caller.subject, int(house.now())
    rotated = int(house.catalog.identity(subject.id).rotated_at)
    expires_at = now + house.settings.token_seconds_max
    if grant is not None:
        expires_at = min(expires_at, grant.expires_at)
    claims = TokenClaims(
        issuer=house.issuer,
        subject=subject.id,
        type=subject.type,
        audience=house.issuer,
        jti=secrets.token_urlsafe(16),
        issued_at=max(now, rotated + 1),  # tells it from what the key before got in that second
        expires_at=expires_at,
        thumbprint=caller.thumbprint,
        parents=caller.chain,
        act=caller.act,
        grant=grant.id if grant else None,
        decision=grant.decision if grant else None,
        run=grant.run if grant else None,
        plan_digest=grant.plan.digest if grant else None,
        policy_epoch=house.catalog.policy_epoch,
    )
    await house.recorded(
        EventDraft(
            kind=EventKind.TokenIssued,
            owner_tenant=grant.owner_tenant if grant else subject.tenant,
            actor_tenant=subject.tenant,
            actor=subject.id,
            facts={
                "jti": claims.jti,
                "grant": claims.grant,
                "thumbprint": caller.thumbprint or "bearer",
                "expires_at": expires_at,
                "parent": caller.jti or None,
            },
            details=_vouching(caller, grant),
        )
    )
    return W.TokenResponse(
        access_token=tokens.mint(house.signers.token, claims),
        expires_in=expires_at - now,
        authorization_details=(granted(grant),) if grant else (),
        decision=grant.decision if grant else None,
        grant=grant.id if grant else None,
        scope="stream" if grant else "api",
        token_type="DPoP" if caller.thumbprint else BEARER,
    )


def _vouching(caller: Caller, grant: Grant | None) -> dict[str, Any]:
    """Who said who it is, when that was no token of ours, and what he said of it."""
    by = {"vouched_by": caller.vouched_by} if caller.vouched_by is not None else {}
    told = dict(caller.subject.attributes) if grant is None else {}  # a Grant has its own
    return {**by, **({"attributes": told} if told else {})}


def granted(grant: Grant) -> dict[str, Any]:
    """The RFC 9396 detail of what a Grant permits."""
    plan = codec.encode(shapes.plan_view(grant.plan))
    return {"type": "dataset_access", "grant": grant.id, "run": grant.run, **plan}


def public_keys(house: House) -> W.KeySet:
    """What verifies our signatures, as a JWK Set (RFC 7517)."""
    others = (house.signers.view, house.signers.log)
    known = {signer.key_id: signer.public_key for signer in others}
    keys = tokens.key_set({**signing_keys.verifying(house), **known})["keys"]
    return W.KeySet(issuer=house.issuer, keys=tuple(keys))
