"""An issuer of tokens as clusters, build systems and identity providers make them.

cluster = Provider("RS256")
cluster.key_set()                     # bytes of its JWK Set
cluster.token({"sub": "…", …})        # signed; `header` overrides members
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Mapping
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

GATEWAY = "https://gateway.example"
NOW = 1_800_000_000
CLUSTER = {
    "iss": "https://kubernetes.default.svc.cluster.local",
    "aud": [GATEWAY],
    "sub": "system:serviceaccount:ml:trainer",
    "iat": NOW,
    "nbf": NOW,
    "exp": NOW + 3607,
    "jti": "a9b8e4f0-3f0b-4d0c-9c3c-0b6f3f1d6a11",
    "kubernetes.io": {
        "namespace": "ml",
        "serviceaccount": {"name": "trainer", "uid": "5f0c"},
        "pod": {"name": "trainer-0", "uid": "77aa"},
    },
}
BUILD = {
    "iss": "https://token.actions.githubusercontent.com",
    "aud": GATEWAY,
    "sub": "repo:startup/models:ref:refs/heads/main",
    "repository": "startup/models",
    "repository_owner_id": "1234567",
    "ref": "refs/heads/main",
    "iat": NOW,
    "nbf": NOW - 5,
    "exp": NOW + 300,
    "jti": "0d6b1a1e-aaaa-bbbb-cccc-1234567890ab",
}
SPIFFE = {
    "iss": "https://spire.startup.example",
    "aud": [GATEWAY],
    "sub": "spiffe://startup.example/ns/ml/sa/trainer",
    "iat": NOW,
    "exp": NOW + 300,
}
_KINDS = {"RS256": "RSA", "PS256": "RSA", "ES256": "EC", "ES384": "EC", "EdDSA": "OKP"}
_CURVES = {"ES256": "P-256", "ES384": "P-384", "EdDSA": "Ed25519"}


@functools.cache
def _key(algorithm: str, number: int) -> RSAKey | ECKey | OKPKey:
    match _KINDS[algorithm]:
        case "RSA":
            return RSAKey.generate_key(2048)
        case "EC":
            return ECKey.generate_key(_CURVES[algorithm])
        case _:
            return OKPKey.generate_key("Ed25519")


class Provider:
    """One issuer with one key; `number` tells keys of one algorithm apart."""

    def __init__(self, algorithm: str, kid: str = "key-1", number: int = 1) -> None:
        self.algorithm, self.kid = algorithm, kid
        self.key = _key(algorithm, number)

    def jwk(self, **members: Any) -> dict[str, Any]:
        public = self.key.as_dict(private=False)
        public = {k: v for k, v in public.items() if k != "kid"}
        return {**public, "kid": self.kid, "use": "sig", "alg": self.algorithm, **members}

    def key_set(self, *others: Provider) -> bytes:
        return json.dumps({"keys": [p.jwk() for p in (self, *others)]}).encode()

    def token(self, claims: Mapping[str, Any], **header: Any) -> str:
        """`header` members replace the usual ones; None leaves one out."""
        members = {"alg": self.algorithm, "kid": self.kid, **header}
        members = {name: value for name, value in members.items() if value is not None}
        return self.sign(json.dumps(members).encode(), json.dumps(claims).encode())

    def sign(self, header: bytes, payload: bytes) -> str:
        """Sign exactly these bytes, however wrong they are."""
        text = f"{_b64(header)}.{_b64(payload)}".encode()
        name = "Ed25519" if self.algorithm == "EdDSA" else self.algorithm
        signature = jws.JWSRegistry.algorithms[name].sign(text, self.key)
        return f"{text.decode()}.{_b64(signature)}"


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
