"""Proof of possession for one HTTP request (RFC 9449), by an ephemeral Ed25519 key.

The key lives as long as the process that made it, or as the token in the file it was written to,
and is never an identity key: a proof can therefore not be passed off as an identity assertion,
nor the other way round (their `typ` and header members differ too).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.crypto import jws
from gateway.errors import NotAuthenticated

TYP = "dpop+jwt"
PROOF_SECONDS_MAX = 60
USE_NONCE = "use_dpop_nonce"  # RFC 9449 §8
_PORTS = {"http": 80, "https": 443}


class DpopKey:
    """A fresh key, one per process; or the one of a `seed` of 32 bytes that was kept."""

    __slots__ = ("_private", "public_key", "thumbprint")

    def __init__(self, seed: bytes | None = None) -> None:
        self._private = (
            Ed25519PrivateKey.generate()
            if seed is None
            else Ed25519PrivateKey.from_private_bytes(seed)
        )
        self.public_key: bytes = self._private.public_key().public_bytes_raw()
        self.thumbprint = jws.thumbprint(self.public_key)

    @property
    def seed(self) -> bytes:
        """What the key is made of; for a file that only its owner reads."""
        return self._private.private_bytes_raw()

    def statement(self, typ: str, claims: Mapping[str, Any]) -> str:
        """Other words that this key stands behind; their `typ` keeps them from being a proof."""
        header = {"typ": typ, "jwk": jws.public_jwk(self.public_key)}
        return jws.compose(self._private.sign, header, claims)

    def proof(
        self,
        method: str,
        url: str,
        *,
        now: jws.Clock,
        nonce: str | None = None,
        access_token: str | None = None,
    ) -> str:
        """The value of one `DPoP` header; good for this method, URL and token, once, 60 s."""
        claims: dict[str, str | int] = {
            "jti": secrets.token_urlsafe(16),
            "htm": method,
            "htu": normal_url(url),
            "iat": int(now()),
        }
        if access_token is not None:
            claims["ath"] = token_hash(access_token)
        if nonce is not None:
            claims["nonce"] = nonce
        return self.statement(TYP, claims)


def verify_proof(  # one argument for each thing that RFC 9449 §4.3 compares
    proof: str,
    request: tuple[str, str],
    access_token: str | None,
    now: jws.Clock,
    seen: Callable[[str], bool],
    nonce: str | None = None,
) -> str:
    """Verify a proof and return the thumbprint of its key.

    The caller compares the thumbprint with what the access token is bound to.

    Args:
        proof: the one `DPoP` header (two headers are refused before this).
        request: method, and URL as the client sent it; query and fragment do not count.
        access_token: the token it accompanies; None at the token endpoint.
        now: clock in Unix seconds.
        seen: is asked once per authentic proof with a key of at most 200 characters; answers
            whether it was asked before (ReplayMemory).
        nonce: what a proof must answer (RFC 9449 §8); None = nothing.

    Raises:
        NotAuthenticated: any check fails, or the proof was used before. With the fact `nonce`
            when that is what is missing: the sender puts it in and tries again.
    """
    method, url = request
    compact = jws.read(proof, typ=TYP, members=frozenset({"jwk"}))
    key = jws.key_of_jwk(compact.header["jwk"])
    jws.verify(compact, key)
    claims = compact.claims
    allowed = {"jti", "htm", "htu", "iat", "ath", "nonce"}
    if set(claims) - allowed or ("ath" in claims) != (access_token is not None):
        raise jws.refused("claims")
    if jws.text(claims, "htm") != method:
        raise jws.refused("htm")
    if normal_url(jws.text(claims, "htu")) != normal_url(url):
        raise jws.refused("htu")
    if access_token is not None and jws.text(claims, "ath") != token_hash(access_token):
        raise jws.refused("ath")
    age = now() - jws.integer(claims, "iat")
    if not -jws.LEEWAY_SECONDS <= age <= PROOF_SECONDS_MAX:
        raise jws.refused("iat", advice="set the clock of this machine")
    thumbprint = jws.thumbprint(key)
    if nonce is not None and claims.get("nonce") != nonce:
        raise _nonce_wanted(nonce, is_missing="nonce" not in claims)
    if seen(f"dpop:{thumbprint}:{jws.identifier(claims)}"):
        raise jws.refused("jti", advice="make a new proof for each request")
    return thumbprint


def _nonce_wanted(nonce: str, *, is_missing: bool) -> NotAuthenticated:
    return NotAuthenticated(
        "the proof does not answer this gateway's nonce",
        advice="put the nonce of the header `DPoP-Nonce` into the proof and try again",
        oauth=USE_NONCE,
        nonce=nonce,
        nonce_missing=is_missing,
    )


def nonce_of(boot: str) -> str:
    """The nonce of one start of a gateway: what was proved before it is worth nothing after."""
    return jws.b64url(hashlib.sha256(f"dpop-nonce {boot}".encode()).digest()[:16])


def normal_url(url: str) -> str:
    """Scheme, host, port and path as RFC 3986 §6.2.2-3 compare them; no query, no fragment."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as cause:
        raise jws.refused("htu") from cause
    if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None:
        raise jws.refused("htu")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    at = "" if port is None or port == _PORTS[parts.scheme] else f":{port}"
    return f"{parts.scheme}://{host}{at}{parts.path or '/'}"


def token_hash(access_token: str) -> str:
    """`ath` of RFC 9449: the base64url SHA-256 of a token."""
    return jws.b64url(hashlib.sha256(access_token.encode("utf-8", "surrogatepass")).digest())
