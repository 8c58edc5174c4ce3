"""The startup's cluster: it signs which job is which, and the gateway's operator trusts it.

It does what Kubernetes does with a projected service account token: the job finds a short-lived
token in a file, made for this gateway alone, and has no key of its own. Its signing key is
made anew for each demo and is in memory only.
"""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path

from gateway.crypto import jws
from gateway.crypto.private_files import replace_private
from gateway.crypto.signing import Signer

ISSUER = "https://cluster.startup.example"
AUDIENCE = "https://gateway.example"
_SECONDS = 3600
_TABLE = """\
[[issuer]]
issuer = "{issuer}"
audience = "{audience}"
algorithms = ["EdDSA"]
jwks = "{keys}"
tenant = "{tenant}"
[[issuer.identity]]
name = "{name}"
claims = {{ sub = "{subject}" }}
"""


class Cluster:
    """One cluster; it runs one job."""

    def __init__(self) -> None:
        """Make its key."""
        self._signer = Signer(secrets.token_bytes(32), "token")

    def be_trusted(self, config_dir: Path, identity: str) -> None:
        """What the operator writes down: this cluster's job is that identity."""
        tenant, _, name = identity.partition("/")
        keys = config_dir / "startup.jwks"
        key = {**jws.public_jwk(self._signer.public_key), "kid": self._signer.key_id}
        keys.write_text(json.dumps({"keys": [key]}), "utf-8")
        table = _TABLE.format(
            issuer=ISSUER,
            audience=AUDIENCE,
            keys=keys.name,
            tenant=tenant,
            name=name,
            subject=_subject(name),
        )
        (config_dir / "issuers.toml").write_text(table, "utf-8")

    def project(self, path: Path, identity: str) -> None:
        """Put the job's token into its file (0600), as the kubelet does."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": [AUDIENCE],
            "sub": _subject(identity.partition("/")[2]),
            "iat": now,
            "exp": now + _SECONDS,
        }
        token = jws.compose(self._signer.sign_text, {"kid": self._signer.key_id}, claims)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_private(path, token.encode("ascii"))


def _subject(name: str) -> str:
    return f"system:serviceaccount:{name}:trainer"
