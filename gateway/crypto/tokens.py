"""Access tokens: short-lived, sender-bound proof of who asks and of one Grant (RFC 9068).

Pure: `now` comes in, no network. Bytes and checks: docs/formats/access-token-v0.md. Proofs of
possession are in dpop.py, identity key files in identity_keys.py; this module names them too.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from gateway.crypto import jws
from gateway.crypto.dpop import USE_NONCE, DpopKey, nonce_of, verify_proof
from gateway.crypto.identity_keys import Assertion, IdentityKey, verify_assertion
from gateway.crypto.replay import ReplayMemory
from gateway.crypto.signing import Signer, key_id_of
from gateway.errors import InvalidInput

__all__ = [
    "USE_NONCE",
    "Assertion",
    "DpopKey",
    "IdentityKey",
    "ReplayMemory",
    "TokenClaims",
    "key_set",
    "mint",
    "nonce_of",
    "verify",
    "verify_assertion",
    "verify_proof",
]
TOKEN_SECONDS_MAX = 600
PARENTS_MAX = 8
TYP = "at+jwt"
BEARER = "Bearer"
_KEY_URN = "urn:ietf:params:oauth:jwk-thumbprint:sha-256:"  # RFC 9278
_LIST_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenClaims:
    """What a token says. A token without `grant` opens the API, one with it opens leases."""

    issuer: str
    audience: str
    subject: str  # `startup/ml`
    type: str  # `person` | `job`
    jti: str  # 16 to 128 characters
    issued_at: int  # Unix seconds
    expires_at: int  # at most TOKEN_SECONDS_MAX later
    thumbprint: str  # RFC 7638, of the DPoP key that must come along; "" = a bearer token
    roles: tuple[str, ...] = ()
    grant: str | None = None  # grant_…
    decision: str | None = None  # dec_…
    run: str | None = None
    plan_digest: str | None = None
    policy_epoch: int | None = None  # at issue; never trusted instead of the present one
    details: tuple[Mapping[str, Any], ...] = ()  # RFC 9396 authorization_details as granted
    parents: tuple[str, ...] = ()  # jti of each token it was exchanged for, the nearest first
    act: tuple[str, ...] = ()  # RFC 8693: keys (thumbprints) that act for the subject, latest first

    @property
    def chain(self) -> tuple[str, ...]:
        """Its own jti and those of its parents: when one of them is revoked, it is."""
        return (self.jti, *self.parents)

    @property
    def tenant(self) -> str:
        """The subject's tenant."""
        return self.subject.partition("/")[0]

    def require_bound_to(self, thumbprint: str) -> None:
        """Raise NotAuthenticated unless the proof was made by the key the token is bound to."""
        if not self.thumbprint or not hmac.compare_digest(
            self.thumbprint.encode(), thumbprint.encode()
        ):
            raise jws.refused("cnf", advice="use the key with which the token was asked for")


def mint(signer: Signer, claims: TokenClaims) -> str:
    """Sign an access token.

    Raises:
        InvalidInput: the signer is not for tokens, or the claims would not verify.
    """
    if signer.use != "token":
        raise InvalidInput(f"a `{signer.use}` key does not sign tokens")
    if not 0 < claims.expires_at - claims.issued_at <= TOKEN_SECONDS_MAX:
        raise InvalidInput(f"a token lives 1 to {TOKEN_SECONDS_MAX} seconds")
    require_short(claims.parents)
    if not claims.thumbprint and claims.grant is None:
        raise InvalidInput("a token without a key is for one grant")
    token = jws.compose(signer.sign_text, {"typ": TYP, "kid": signer.key_id}, _to_json(claims))
    if len(token) > jws.TOKEN_BYTES_MAX:
        raise InvalidInput("the token would be too long", advice="name fewer columns")
    return token


def require_short(parents: tuple[str, ...]) -> None:
    """Raise InvalidInput when a token would come of more than PARENTS_MAX exchanges."""
    if len(parents) > PARENTS_MAX:
        raise InvalidInput(
            f"a token is exchanged at most {PARENTS_MAX} times", advice="ask with your own key"
        )


def verify(
    token: str,
    keys: Mapping[str, bytes],
    audience: str,
    now: jws.Clock,
    *,
    issuer: str | None = None,
) -> TokenClaims:
    """Verify an access token and return what it says.

    That the sender holds the bound key is a second check: `verify_proof`, then
    `TokenClaims.require_bound_to`.

    Args:
        token: compact form, as in the header `Authorization: DPoP …`.
        keys: public keys by key id, of the use `token`.
        audience: this gateway; must be the token's only audience.
        now: clock in Unix seconds.
        issuer: the only accepted issuer; None = whoever holds one of the keys.

    Raises:
        NotAuthenticated: any check fails. An expiry has no leeway: the clock is our own.
    """
    compact = jws.read(token, typ=TYP, members=frozenset({"kid"}))
    kid = compact.header["kid"]
    key = keys.get(kid) if isinstance(kid, str) else None
    if key is None or key_id_of(key, "token") != kid:
        raise jws.refused("kid")
    jws.verify(compact, key)
    jws.check_times(compact.claims, now(), seconds_max=TOKEN_SECONDS_MAX, leeway=0)
    claims = _from_json(compact.claims)
    if claims.audience != audience:
        raise jws.refused("aud")
    if issuer is not None and claims.issuer != issuer:
        raise jws.refused("iss")
    return claims


def key_set(keys: Mapping[str, bytes]) -> dict[str, Any]:
    """The public keys as a JWK Set (RFC 7517) for `/.well-known`."""
    return {
        "keys": [
            {**jws.public_jwk(key), "kid": kid, "use": "sig", "alg": jws.ALGORITHM}
            for kid, key in sorted(keys.items())
        ]
    }


# JSON name of each claim; None of our own names collides with a registered claim.
_NAMES = {
    "issuer": "iss",
    "audience": "aud",
    "subject": "sub",
    "type": "subject_type",
    "jti": "jti",
    "issued_at": "iat",
    "expires_at": "exp",
    "roles": "roles",
    "grant": "grant",
    "decision": "decision",
    "run": "run",
    "plan_digest": "plan",
    "policy_epoch": "policy_epoch",
    "details": "authorization_details",
    "parents": "parents",
}
_OPTIONAL_TEXT = ("grant", "decision", "run", "plan")


def _to_json(claims: TokenClaims) -> dict[str, Any]:
    values = {_NAMES[f.name]: getattr(claims, f.name) for f in fields(claims) if f.name in _NAMES}
    values["roles"] = list(claims.roles)
    values["authorization_details"] = [dict(detail) for detail in claims.details]
    values["parents"] = list(claims.parents)
    present = {name: value for name, value in values.items() if value is not None and value != []}
    # RFC 9068 wants client_id; here every subject is its own client.
    if claims.act:
        present["act"] = actors(claims.act)
    bound = {"cnf": {"jkt": claims.thumbprint}} if claims.thumbprint else {"token_type": BEARER}
    return {**present, "client_id": claims.subject, **bound}


def _from_json(claims: Mapping[str, Any]) -> TokenClaims:
    unknown = set(claims) - set(_NAMES.values()) - {"client_id", "cnf", "token_type", "act"}
    if unknown:
        raise jws.refused("claims")
    subject = jws.text(claims, "sub")
    if claims.get("client_id") != subject or "/" not in subject:
        raise jws.refused("sub")
    kind = jws.text(claims, "subject_type")
    if kind not in {"person", "job"}:
        raise jws.refused("subject_type")
    optional = {name: jws.text(claims, name) for name in _OPTIONAL_TEXT if name in claims}
    if "token_type" in claims and (claims["token_type"] != BEARER or not _is_bearers(claims)):
        raise jws.refused("token_type")
    epoch = jws.integer(claims, "policy_epoch") if "policy_epoch" in claims else None
    return TokenClaims(
        issuer=jws.text(claims, "iss"),
        audience=jws.text(claims, "aud"),
        subject=subject,
        type=kind,
        jti=jws.identifier(claims),
        issued_at=jws.integer(claims, "iat"),
        expires_at=jws.integer(claims, "exp"),
        thumbprint="" if "token_type" in claims else _bound_key(claims),
        roles=tuple(_list(claims, "roles", str)),
        grant=optional.get("grant"),
        decision=optional.get("decision"),
        run=optional.get("run"),
        plan_digest=optional.get("plan"),
        policy_epoch=epoch,
        details=tuple(_list(claims, "authorization_details", dict)),
        parents=_parents(claims),
        act=_act(claims.get("act")),
    )


def actors(keys: tuple[str, ...]) -> dict[str, Any] | None:
    """The claim `act` (RFC 8693 §4.1) of keys named by RFC 9278; None when nobody else acts."""
    if not keys:
        return None
    inner = actors(keys[1:])
    return {"sub": _KEY_URN + keys[0], **({"act": inner} if inner is not None else {})}


def _act(claim: Any) -> tuple[str, ...]:
    found: list[str] = []
    while claim is not None:
        if not isinstance(claim, dict) or set(claim) - {"sub", "act"} or len(found) == PARENTS_MAX:
            raise jws.refused("act")
        urn = jws.text(claim, "sub")
        if not urn.startswith(_KEY_URN):
            raise jws.refused("act")
        found.append(jws.identifier({"act": urn.removeprefix(_KEY_URN)}, "act"))
        claim = claim.get("act")
    return tuple(found)


def _parents(claims: Mapping[str, Any]) -> tuple[str, ...]:
    found = _list(claims, "parents", str)
    if len(found) > PARENTS_MAX:
        raise jws.refused("parents")
    return tuple(jws.identifier({"parents": parent}, "parents") for parent in found)


def _is_bearers(claims: Mapping[str, Any]) -> bool:
    """A token that no key is bound to says so itself, and is for one Grant."""
    return "cnf" not in claims and "grant" in claims


def _bound_key(claims: Mapping[str, Any]) -> str:
    bound = claims.get("cnf")
    if not isinstance(bound, dict) or set(bound) != {"jkt"}:
        raise jws.refused("cnf")
    return jws.identifier(bound, "jkt")


def _list(claims: Mapping[str, Any], name: str, kind: type) -> list[Any]:
    found = claims.get(name, [])
    if not isinstance(found, list) or len(found) > _LIST_MAX:
        raise jws.refused(name)
    if any(type(item) is not kind for item in found):
        raise jws.refused(name)
    return found
