"""The calls into `joserfc`: is this compact token signed by this key, and is this JWK strong?

A module of its own because importing the library takes longer than all that a client needs;
`jws.verify` and `foreign_tokens` import it at first use.
"""

from __future__ import annotations

import functools
from typing import Any

from joserfc import jws
from joserfc.errors import UnsupportedAlgorithmError
from joserfc.jwk import ECKey, OKPKey, RSAKey

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


def require_signature(token: str, x: str) -> None:
    """Raise JoseError, ValueError or TypeError unless the Ed25519 key `x` signed the token."""
    jws.deserialize_compact(token, _imported(x), registry=_REGISTRY)


@functools.lru_cache(maxsize=4096)
def _imported(x: str) -> OKPKey:
    """A public key by its coordinate: the same few sign again and again."""
    return OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": x})


def import_public(jwk: dict[str, str]) -> ECKey | OKPKey | RSAKey:
    """The public key of a JWK that holds nothing but its public parts; JoseError, ValueError."""
    match jwk["kty"]:
        case "RSA":
            return RSAKey.import_key(dict(jwk))
        case "EC":
            return ECKey.import_key(dict(jwk))
        case _:
            return OKPKey.import_key(dict(jwk))


def require_signature_of(token: str, key: ECKey | OKPKey | RSAKey, algorithm: str) -> None:
    """Raise JoseError, ValueError or TypeError unless the key signed it with this algorithm."""
    if algorithm in ALGORITHMS:
        jws.deserialize_compact(token, key, registry=_REGISTRY)
    else:
        jws.deserialize_compact(token, key, algorithms=[algorithm])
