"""Tokens that somebody else signed: an identity provider, a cluster, a build system.

The same strict form as our own (jws.py). Beyond it: the algorithm is one of those that the
operator wrote down for this issuer and fits the type of the key, the key is found by an exact
`kid` in a key set that we hold (never by a URL or key in the token), the audience is ours
alone, and every time is checked. No symmetric algorithm exists here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.crypto import jws, strict_json
from gateway.errors import InvalidInput, NotAuthenticated

KEY_SET_BYTES_MAX = 256 << 10
KEYS_MAX = 64
SECONDS_DEFAULT = 24 * 3600
RSA_BITS = range(2048, 8193)
RSA_EXPONENTS = range(65537, 1 << 32)
# algorithm -> type and curve of the only keys it goes with
KEY_TYPES = {
    "EdDSA": ("OKP", "Ed25519"),
    "Ed25519": ("OKP", "Ed25519"),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "RS256": ("RSA", None),
    "PS256": ("RSA", None),
}
_PUBLIC_MEMBERS = {"OKP": ("crv", "x"), "EC": ("crv", "x", "y"), "RSA": ("n", "e")}
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
# `x5t` only repeats which key it is; whatever would bring a key or change the form is refused.
_HEADER = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How tokens of one issuer must look."""

    issuer: str
    audience: str
    algorithms: frozenset[str]
    typ: str | None = None  # the only accepted `typ`; None = `JWT` or none
    seconds_max: int = SECONDS_DEFAULT  # longest accepted life


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One key of a set."""

    type: str
    curve: str | None
    algorithm: str | None  # the only one it is for, when the set says so
    key: Any  # of joserfc


def read_key_set(data: bytes) -> dict[str, PublicKey]:
    """The signature keys of a JWK Set (RFC 7517) by `kid`; others in it are left out.

    Raises:
        InvalidInput: not a key set, two keys of one `kid`, a private or symmetric key in it,
            a weak key, or no key that can be used.
    """
    try:
        listed = strict_json.decode(data, bytes_max=KEY_SET_BYTES_MAX).get("keys")
    except strict_json.NotStrictJson as cause:
        raise InvalidInput(f"the key set cannot be read: {cause}") from cause
    if not isinstance(listed, list) or len(listed) > KEYS_MAX:
        raise InvalidInput(f"a key set has a list `keys` of at most {KEYS_MAX}")
    found: dict[str, PublicKey] = {}
    for jwk in listed:
        if not isinstance(jwk, dict) or _PRIVATE_MEMBERS & set(jwk):
            raise InvalidInput("the key set holds something else than public keys")
        kid = jwk.get("kid")
        if not _is_for_signatures(jwk) or not isinstance(kid, str) or not kid:
            continue
        if kid in found:
            raise InvalidInput("two keys of the key set have the same `kid`")
        found[kid] = _public_key(jwk)
    if not found:
        raise InvalidInput("the key set has no signature key of a known type with a `kid`")
    return found


def _is_for_signatures(jwk: Mapping[str, Any]) -> bool:
    known = (jwk.get("kty"), jwk.get("crv")) in KEY_TYPES.values()
    acts = jwk.get("key_ops", ["verify"])
    return known and jwk.get("use", "sig") == "sig" and isinstance(acts, list) and "verify" in acts


def _public_key(jwk: Mapping[str, Any]) -> PublicKey:
    from joserfc.errors import JoseError

    from gateway.crypto.jose import import_public

    kind, curve, algorithm = jwk["kty"], jwk.get("crv"), jwk.get("alg")
    try:
        parts = {name: jwk[name] for name in _PUBLIC_MEMBERS[kind]}
        numbers = {name: jws.unb64url(parts[name]) for name in parts if name != "crv"}
        _require_strong(kind, numbers)
        key = import_public({"kty": kind, **parts})
    except (KeyError, ValueError, TypeError, AttributeError, JoseError, NotAuthenticated) as cause:
        raise InvalidInput("a key of the key set is malformed") from cause
    return PublicKey(kind, curve, algorithm if isinstance(algorithm, str) else None, key)


def _require_strong(kind: str, numbers: Mapping[str, bytes]) -> None:
    if kind == "RSA" and not _is_strong_rsa(numbers["n"], numbers["e"]):
        raise InvalidInput("an RSA key of the key set is too short, too long or has a bad exponent")
    if kind == "OKP" and not jws.is_strong(numbers["x"]):
        raise InvalidInput("an Ed25519 key of the key set is too short or of small order")


def _is_strong_rsa(modulus: bytes, exponent: bytes) -> bool:
    n, e = int.from_bytes(modulus, "big"), int.from_bytes(exponent, "big")
    return n.bit_length() in RSA_BITS and n % 2 == 1 and e in RSA_EXPONENTS and e % 2 == 1


def issuer_of(token: str) -> str:
    """Who the token says made it: only to find the profile by which it is verified."""
    return jws.text(jws.parse(token).claims, "iss")


def kid_of(token: str) -> str:
    """Which key the token says signed it: only to look for the key, which is then verified by."""
    return jws.text(jws.parse(token).header, "kid")


def verify(
    token: str, profile: Profile, keys: Mapping[str, PublicKey], now: jws.Clock
) -> Mapping[str, Any]:
    """The claims of a token that this issuer made for us.

    Args:
        token: compact form.
        profile: what is accepted of this issuer.
        keys: of this issuer, by `kid`.
        now: clock in Unix seconds; the other machine's clock may differ by 30 s.

    Raises:
        NotAuthenticated: any check fails.
    """
    compact = jws.parse(token)
    algorithm = _check_header(compact.header, profile)
    kid = compact.header["kid"]
    key = keys.get(kid) if isinstance(kid, str) else None
    if key is None:
        raise jws.refused("kid")
    if KEY_TYPES[algorithm] != (key.type, key.curve) or not _is_for(key, algorithm):
        raise jws.refused("alg")
    _require_signature(token, key, algorithm)
    claims = compact.claims
    if jws.text(claims, "iss") != profile.issuer:
        raise jws.refused("iss")
    if claims.get("aud") not in (profile.audience, [profile.audience]):
        raise jws.refused("aud", advice="ask the issuer for a token for this gateway alone")
    jws.text(claims, "sub")
    seconds = profile.seconds_max
    jws.check_times(claims, now(), seconds_max=seconds, leeway=jws.LEEWAY_SECONDS)
    if "nbf" in claims and jws.integer(claims, "nbf") > now() + jws.LEEWAY_SECONDS:
        raise jws.refused("nbf")
    return claims


def _check_header(header: Mapping[str, Any], profile: Profile) -> str:
    if set(header) - _HEADER or "kid" not in header:
        raise jws.refused("header")
    typ = header.get("typ")
    if typ is not None and not isinstance(typ, str):
        raise jws.refused("typ")
    said = None if typ is None else typ.lower()
    if said not in ((None, "jwt") if profile.typ is None else (profile.typ.lower(),)):
        raise jws.refused("typ")
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in profile.algorithms & set(KEY_TYPES):
        raise jws.refused("alg")
    return algorithm


def _is_for(key: PublicKey, algorithm: str) -> bool:
    if key.algorithm is None or key.algorithm == algorithm:
        return True
    return {key.algorithm, algorithm} == set(jws.ALGORITHMS)


def _require_signature(token: str, key: PublicKey, algorithm: str) -> None:
    from joserfc.errors import JoseError

    from gateway.crypto.jose import require_signature_of

    try:
        require_signature_of(token, key.key, algorithm)
    except (JoseError, ValueError, TypeError) as cause:
        raise jws.refused("signature") from cause
