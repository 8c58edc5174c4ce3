"""Tokens whose signature was verified already, by SHA-256, until they run out. Pure.

A token is sent with every request and its signature is the dearest thing about it. What may change
while it lives is no part of this: whether it, its identity or its Grant has ended is asked each
time. A key that verified a token goes on to until the token ends (services/signing_keys.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from gateway.crypto.tokens import TokenClaims

CAPACITY = 20_000


class VerifiedTokens:
    """The newest CAPACITY of them; a token that is not there is verified."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        """Nothing is known yet."""
        self._capacity = capacity
        self._known: dict[bytes, TokenClaims] = {}

    def claims_of(
        self, token: str, now: float, verify: Callable[[str], TokenClaims]
    ) -> TokenClaims:
        """What the token says; `verify` raises for one that is not accepted, or not any more."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        claims = self._known.get(digest)
        if claims is not None and claims.expires_at > now:
            return claims
        self._known.pop(digest, None)
        claims = verify(token)
        if len(self._known) >= self._capacity:
            del self._known[next(iter(self._known))]
        self._known[digest] = claims
        return claims
