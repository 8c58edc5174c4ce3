"""The one call into `joserfc`: is this compact token signed by this Ed25519 key?

A module of its own because importing the library takes longer than all that a client needs;
`jws.verify` imports it at first use.
"""

from __future__ import annotations

from typing import Any

from joserfc import jws
from joserfc.errors import UnsupportedAlgorithmError
from joserfc.jwk import OKPKey

from gateway.crypto.jws import ALGORITHMS


class _OnlyEd25519(jws.JWSRegistry):
    """Knows one algorithm and takes both names for it.

    `EdDSA` alone would leave the curve to the key; the stock registry warns of it.
    """

    def get_alg(self, name: str) -> Any:
        if name not in ALGORITHMS:
            raise UnsupportedAlgorithmError(f"algorithm `{name}` is not accepted")
        return self.algorithms["Ed25519"]


_REGISTRY = _OnlyEd25519()


def require_signature(token: str, jwk: dict[str, str | list[str]]) -> None:
    """Raise JoseError, ValueError or TypeError unless the public key signed the token."""
    jws.deserialize_compact(token, OKPKey.import_key(jwk), registry=_REGISTRY)
