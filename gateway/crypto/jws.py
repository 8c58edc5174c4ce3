"""Signed tokens in compact form (RFC 7515), read by one rule only. Pure but for key bytes.

Written with our own Ed25519 signer, so that a client needs no JOSE library; verified by
`joserfc` behind refusals that it does not make itself: exact characters and size, canonical
base64url, known header members only (so no `crit`, `jku`, `x5u`, `b64`, `zip`), no duplicate
members, `alg` of a fixed list, explicit `typ`, integer times. Every refusal is NotAuthenticated
with a word that names the check and nothing of the token.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.crypto import strict_json
from gateway.errors import NotAuthenticated

ALGORITHM = "EdDSA"
ALGORITHMS = ("EdDSA", "Ed25519")  # both names of RFC 8037 and RFC 9864 for the same thing
TOKEN_BYTES_MAX = 16 << 10
LEEWAY_SECONDS = 30
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")
_ID = re.compile(r"[A-Za-z0-9_.:-]{16,128}\Z")
_KEY_BYTES = 32
# y coordinates of the points of order 1, 2, 4 and 8 (RFC 7748 §6.1 tells of the same problem for
# X25519), also where they are not written modulo p = 2^255 - 19.
_P = 2**255 - 19
_Y8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER = frozenset({0, 1, _P - 1, _P, _P + 1, _Y8, _P - _Y8})
Clock = Callable[[], float]  # Unix seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Compact:
    """A token as read, not yet verified."""

    text: str
    header: Mapping[str, Any]
    claims: Mapping[str, Any]


def compose(
    sign_text: Callable[[bytes], bytes], header: Mapping[str, Any], claims: Mapping[str, Any]
) -> str:
    """The compact form; `sign_text` gives 64 bytes of Ed25519 over the text."""
    parts = (strict_json.encode({**header, "alg": ALGORITHM}), strict_json.encode(claims))
    text = ".".join(b64url(part) for part in parts)
    return f"{text}.{b64url(sign_text(text.encode('ascii')))}"


def read(token: str, *, typ: str, members: frozenset[str]) -> Compact:
    """Read the header and claims of a token that is not verified yet.

    Args:
        token: compact form.
        typ: the only accepted `typ`, compared without regard to case (RFC 7515 §4.1.9).
        members: exactly these header members must be there, besides `typ` and `alg`.
    """
    compact = parse(token)
    header = compact.header
    if set(header) != members | {"typ", "alg"}:
        raise refused("header")
    found = header["typ"]
    if not isinstance(found, str) or found.lower() != typ.lower():
        raise refused("typ")
    if header["alg"] not in ALGORITHMS:
        raise refused("alg")
    return compact


def parse(token: str) -> Compact:
    """Read the form alone: exact characters, size, one reading. Nothing is checked yet."""
    if not isinstance(token, str) or len(token) > TOKEN_BYTES_MAX or not _COMPACT.match(token):
        raise refused("form")
    head, body, _ = (unb64url(part) for part in token.split("."))
    try:
        header = strict_json.decode(head, bytes_max=TOKEN_BYTES_MAX)
        claims = strict_json.decode(body, bytes_max=TOKEN_BYTES_MAX)
    except strict_json.NotStrictJson as cause:
        raise refused("form") from cause
    return Compact(text=token, header=header, claims=claims)


def verify(compact: Compact, public_key: bytes) -> None:
    """Raise NotAuthenticated unless the 32-byte Ed25519 key signed the token."""
    from joserfc.errors import JoseError

    from gateway.crypto.jose import require_signature

    try:
        require_signature(compact.text, b64url(public_key))
    except (JoseError, ValueError, TypeError) as cause:
        raise refused("signature") from cause


def check_times(claims: Mapping[str, Any], now: float, *, seconds_max: int, leeway: int) -> None:
    """Raise NotAuthenticated unless `iat` and `exp` enclose the present.

    Args:
        claims: with integer `iat` and `exp` (Unix seconds).
        now: Unix seconds.
        seconds_max: longest accepted life.
        leeway: seconds by which an expiry may be past; `iat` may always be LEEWAY_SECONDS ahead.
    """
    issued, expires = integer(claims, "iat"), integer(claims, "exp")
    if issued > now + LEEWAY_SECONDS:
        raise refused("iat")
    if not 0 < expires - issued <= seconds_max or expires + leeway <= now:
        raise refused("exp", advice="the token has expired; ask for a new one")


def integer(claims: Mapping[str, Any], name: str) -> int:
    """A claim that must be an integer."""
    value = claims.get(name)
    if type(value) is not int:
        raise refused(name)
    return value


def text(claims: Mapping[str, Any], name: str) -> str:
    """A claim that must be non-empty text."""
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise refused(name)
    return value


def identifier(claims: Mapping[str, Any], name: str = "jti") -> str:
    """A claim that must be 16 to 128 plain characters: long enough to be unique."""
    value = text(claims, name)
    if not _ID.match(value):
        raise refused(name)
    return value


def refused(check: str, advice: str | None = None) -> NotAuthenticated:
    """The one refusal; `check` names a member or a step, never a value."""
    return NotAuthenticated(f"the token is not accepted (`{check}`)", advice=advice)


def public_jwk(public_key: bytes) -> dict[str, str | list[str]]:
    """The public key as a JWK (RFC 8037)."""
    return {"kty": "OKP", "crv": "Ed25519", "x": b64url(public_key)}


def thumbprint(public_key: bytes) -> str:
    """RFC 7638 thumbprint of the public key: 43 characters of base64url."""
    return b64url(hashlib.sha256(strict_json.encode(public_jwk(public_key))).digest())


def key_of_jwk(jwk: Any) -> bytes:
    """The 32 bytes of a public Ed25519 JWK that holds nothing else (no private part)."""
    if not isinstance(jwk, dict) or set(jwk) != {"kty", "crv", "x"}:
        raise refused("jwk")
    key = unb64url(jwk["x"]) if isinstance(jwk["x"], str) else b""
    if jwk["kty"] != "OKP" or jwk["crv"] != "Ed25519" or not is_strong(key):
        raise refused("jwk")
    return key


def is_strong(public_key: bytes) -> bool:
    """Whether it has 32 bytes and is no point of small order.

    Under such a point anybody can make signatures that verify: whoever registered it could
    later deny every one of its acts.
    """
    if len(public_key) != _KEY_BYTES:
        return False
    y = int.from_bytes(public_key, "little") & ~(1 << 255)
    return y not in _SMALL_ORDER


def b64url(data: bytes) -> str:
    """Unpadded base64url."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def unb64url(text: str) -> bytes:
    """Undo `b64url`; NotAuthenticated for padding, other characters or stray bits."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as cause:
        raise refused("base64") from cause
    if b64url(data) != text:
        raise refused("base64")
    return data
