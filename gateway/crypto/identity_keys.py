"""The identity of a person or job: one Ed25519 key file (0600) and the assertions it makes.

An assertion (RFC 7523) says for one minute: the holder of this key asks, and will prove
possession of that DPoP key. Stolen, it is worth nothing without the DPoP key.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.crypto import jws, private_files, strict_json
from gateway.domain.dataset import parse_name
from gateway.errors import ConfigError, InvalidInput, NotAuthenticated, NotFound

TYP = "gateway-identity+jwt"
ASSERTION_SECONDS = 60
LINEAGE_TYP = "gateway-lineage-key+jwt"
LINEAGE_KEY_SECONDS_MAX = 366 * 86_400
_FORMAT = "identity-key-v0"
_SEED_BYTES = 32
_NOBODY = bytes(32)


class IdentityKey:
    """A private identity key in memory."""

    __slots__ = ("_private", "identity", "public_key", "thumbprint")

    def __init__(self, identity: str, seed: bytes) -> None:
        """Hold the key of `tenant/name`; InvalidInput when either is malformed."""
        if len(seed) != _SEED_BYTES:
            raise InvalidInput("the seed of an Ed25519 key has 32 bytes")
        self.identity = parse_identity(identity)
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key: bytes = self._private.public_key().public_bytes_raw()
        self.thumbprint = jws.thumbprint(self.public_key)

    @classmethod
    def create(cls, path: Path, identity: str) -> IdentityKey:
        """Make a key file (0600); Conflict when there is one already."""
        private = Ed25519PrivateKey.generate()
        made = cls(identity, private.private_bytes_raw())
        fields = {
            "format": _FORMAT,
            "identity": made.identity,
            "private_key": jws.b64url(private.private_bytes_raw()),
            "public_key": made.public_text,
        }
        private_files.make_private_dir(path.parent)
        private_files.create_private(path, strict_json.encode(fields))
        return made

    @classmethod
    def load(cls, path: Path) -> IdentityKey:
        """Read a key file.

        Raises:
            ConfigError: there is none, others can reach it, or it is damaged.
        """
        try:
            data = private_files.read_private(path, bytes_max=4096)
            fields = strict_json.decode(data, bytes_max=4096)
            if fields["format"] != _FORMAT:
                raise ConfigError(f"`{path}` is not an identity key of a known format")
            key = cls(fields["identity"], jws.unb64url(fields["private_key"]))
        except NotFound as cause:
            raise ConfigError(
                f"there is no identity key `{path}`", advice="name it with GATEWAY_KEY_FILE"
            ) from cause
        except (ValueError, KeyError, TypeError, InvalidInput, NotAuthenticated) as cause:
            raise ConfigError(f"`{path}` is not a readable identity key") from cause
        if fields.get("public_key") != key.public_text:
            raise ConfigError(f"the two halves of the key in `{path}` do not fit")
        return key

    @property
    def public_text(self) -> str:
        """The public key as 43 characters of base64url: what an owner registers."""
        return jws.b64url(self.public_key)

    def assertion(self, audience: str, now: jws.Clock, dpop_thumbprint: str) -> str:
        """A statement for `audience`, good once, for a minute, with that DPoP key only."""
        bound = {"cnf": {"jkt": dpop_thumbprint}}
        return self._statement(TYP, audience, int(now()), ASSERTION_SECONDS, bound)

    def lineage_key(self, audience: str, now: jws.Clock, seconds: int) -> str:
        """A key that posts lineage events to `audience` in this identity's name, and no more.

        For clients that can only send `Authorization: Bearer …`. It is bound to no other key:
        whoever has it can use it until it ends or is revoked.
        """
        if not 0 < seconds <= LINEAGE_KEY_SECONDS_MAX:
            raise InvalidInput(f"a lineage key lives 1 to {LINEAGE_KEY_SECONDS_MAX} seconds")
        return self._statement(LINEAGE_TYP, audience, int(now()), seconds, {})

    def _statement(
        self, typ: str, audience: str, issued: int, seconds: int, more: Mapping[str, Any]
    ) -> str:
        claims = {
            "iss": self.identity,
            "sub": self.identity,
            "aud": audience,
            "iat": issued,
            "exp": issued + seconds,
            "jti": secrets.token_urlsafe(16),
            **more,
        }
        return jws.compose(self._private.sign, {"typ": typ, "kid": self.thumbprint}, claims)

    def __repr__(self) -> str:
        return f"IdentityKey({self.identity}, {self.thumbprint})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """A verified statement of an identity."""

    identity: str  # `tenant/name`
    thumbprint: str  # of the identity key
    dpop_thumbprint: str  # of the key whose proof must come along
    jti: str
    expires_at: int


def verify_assertion(
    assertion: str,
    key_lookup: Callable[[str], bytes | None],
    audience: str,
    now: jws.Clock,
    seen: Callable[[str], bool],
) -> Assertion:
    """Verify an identity assertion.

    An unknown identity, a disabled one (`key_lookup` answers None) and a wrong signature
    look and cost the same.

    Args:
        assertion: compact form.
        key_lookup: identity (`tenant/name`) to its 32-byte public key; None = nobody.
        audience: the only accepted audience.
        now: clock in Unix seconds; the other machine's clock may differ by 30 s.
        seen: as in `verify_proof`.

    Raises:
        NotAuthenticated: any check fails, or the assertion was used before.
    """
    claims, key = _verified(assertion, TYP, {"cnf"}, key_lookup, audience)
    identity = jws.text(claims, "sub")
    jws.check_times(claims, now(), seconds_max=ASSERTION_SECONDS, leeway=jws.LEEWAY_SECONDS)
    bound = claims["cnf"]
    if not isinstance(bound, dict) or set(bound) != {"jkt"}:
        raise jws.refused("cnf")
    jti = jws.identifier(claims)
    if seen(f"assertion:{jws.thumbprint(key)}:{jti}"):
        raise jws.refused("jti")
    return Assertion(
        identity=identity,
        thumbprint=jws.thumbprint(key),
        dpop_thumbprint=jws.identifier(bound, "jkt"),
        jti=jti,
        expires_at=jws.integer(claims, "exp"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageKey:
    """A verified lineage key."""

    identity: str  # `tenant/name`
    jti: str
    expires_at: int

    @property
    def revocable(self) -> str:
        """Under which it is revoked; no access token's `jti` looks like it."""
        return f"{self.identity}:{self.jti}"


def verify_lineage_key(
    key_text: str, key_lookup: Callable[[str], bytes | None], audience: str, now: jws.Clock
) -> LineageKey:
    """Verify a key of `IdentityKey.lineage_key`; as `verify_assertion`, but good many times.

    Raises:
        NotAuthenticated: any check fails.
    """
    claims, _ = _verified(key_text, LINEAGE_TYP, set(), key_lookup, audience)
    jws.check_times(claims, now(), seconds_max=LINEAGE_KEY_SECONDS_MAX, leeway=0)
    return LineageKey(
        identity=jws.text(claims, "sub"),
        jti=jws.identifier(claims),
        expires_at=jws.integer(claims, "exp"),
    )


def _verified(
    text: str,
    typ: str,
    members: set[str],
    key_lookup: Callable[[str], bytes | None],
    audience: str,
) -> tuple[Mapping[str, Any], bytes]:
    """Claims that the key of their own `sub` signed for `audience`, and that key."""
    compact = jws.read(text, typ=typ, members=frozenset({"kid"}))
    claims = compact.claims
    if set(claims) != {"iss", "sub", "aud", "iat", "exp", "jti"} | members:
        raise jws.refused("claims")
    identity = jws.text(claims, "sub")
    key = key_lookup(identity)
    jws.verify(compact, key or _NOBODY)
    if key is None or compact.header["kid"] != jws.thumbprint(key):
        raise jws.refused("signature")
    if jws.text(claims, "iss") != identity or jws.text(claims, "aud") != audience:
        raise jws.refused("aud")
    return claims, key


def parse_identity(text: str) -> str:
    """Return `text` when it is `tenant/name`; InvalidInput otherwise."""
    if not isinstance(text, str):
        raise InvalidInput("an identity is text", advice="write `tenant/name`")
    tenant, _, name = text.partition("/")
    return f"{parse_name(tenant, what='tenant')}/{parse_name(name, what='identity')}"


def public_key_of(text: str) -> bytes:
    """The 32 bytes of a registered public key (43 characters of base64url); InvalidInput."""
    try:
        key = jws.unb64url(text)
    except NotAuthenticated as cause:
        raise InvalidInput("a public key is 43 characters of base64url") from cause
    if not jws.is_strong(key):
        raise InvalidInput("a public key is an Ed25519 point of full order, 43 characters")
    return key
