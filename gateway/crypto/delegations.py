"""A statement by the key of a token: that other key may have this part of what the token opens.

Without it a token is exchanged by its own key alone (threat: a thief launders it to his key). The
statement is good once, for a minute, at one start of one gateway, for one key and one detail.
Bytes and checks: docs/formats/access-token-v0.md.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.crypto import jws
from gateway.crypto.dpop import DpopKey, token_hash

TYP = "gateway-delegation+jwt"
SECONDS_MAX = 60
_CLAIMS = {"aud", "ath", "cnf", "iat", "exp", "jti", "nonce", "authorization_details"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a statement counts: the gateway, and its present start."""

    audience: str
    nonce: str


def delegate(
    key: DpopKey,
    token: str,
    thumbprint: str,
    detail: Mapping[str, Any],
    place: Place,
    now: jws.Clock,
) -> str:
    """Let the key of `thumbprint` have one RFC 9396 detail of what `token` opens.

    Args:
        key: that `token` is bound to.
        token: the access token that will be the `subject_token`.
        thumbprint: RFC 7638, of the key that will send the proof.
        detail: exactly what it may ask for.
        place: where.
        now: clock in Unix seconds.
    """
    issued = int(now())
    claims = {
        "aud": place.audience,
        "ath": token_hash(token),
        "cnf": {"jkt": thumbprint},
        "iat": issued,
        "exp": issued + SECONDS_MAX,
        "jti": secrets.token_urlsafe(16),
        "nonce": place.nonce,
        "authorization_details": [dict(detail)],
    }
    return key.statement(TYP, claims)


def verify(
    statement: str,
    token: str,
    keys: tuple[str, str],
    place: Place,
    now: jws.Clock,
    seen: Callable[[str], bool],
) -> Mapping[str, Any]:
    """The one detail that the key of `token` lets another key have.

    Args:
        statement: compact form.
        token: the access token it is about.
        keys: thumbprints of the key that `token` is bound to, and of the key that asks.
        place: this gateway at this start.
        now: clock in Unix seconds.
        seen: as in `verify_proof`.

    Raises:
        NotAuthenticated: any check fails, or the statement was used before.
    """
    bound, asking = keys
    compact = jws.read(statement, typ=TYP, members=frozenset({"jwk"}))
    key = jws.key_of_jwk(compact.header["jwk"])
    jws.verify(compact, key)
    claims = compact.claims
    if not bound or not hmac.compare_digest(jws.thumbprint(key).encode(), bound.encode()):
        raise jws.refused("cnf", advice="let the key state it that the token is bound to")
    if set(claims) != _CLAIMS or claims["cnf"] != {"jkt": asking}:
        raise jws.refused("claims")
    for name, wanted in {
        "aud": place.audience,
        "ath": token_hash(token),
        "nonce": place.nonce,
    }.items():
        if jws.text(claims, name) != wanted:
            raise jws.refused(name)
    jws.check_times(claims, now(), seconds_max=SECONDS_MAX, leeway=jws.LEEWAY_SECONDS)
    details = claims["authorization_details"]
    if not isinstance(details, list) or len(details) != 1 or not isinstance(details[0], dict):
        raise jws.refused("authorization_details")
    if seen(f"delegation:{bound}:{jws.identifier(claims)}"):
        raise jws.refused("jti", advice="state it anew for each exchange")
    return details[0]
