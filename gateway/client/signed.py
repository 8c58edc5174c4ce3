"""The lease manifest is believed when a key that the gateway publishes has signed it.

The keys are those of `/.well-known/jwks.json`, asked for once per server and again when one is
not among them. What a stream is checked against then passes through nobody else's hands unseen,
and can be shown to others.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gateway.crypto import jws
from gateway.crypto.signing import open_document
from gateway.errors import IntegrityError, NotAuthenticated

if TYPE_CHECKING:
    from gateway.client.leases import Transport

KEYS = "/.well-known/jwks.json"
USE = "view"  # of the key that signs what clients are shown

_known: weakref.WeakKeyDictionary[Transport, dict[str, bytes]] = weakref.WeakKeyDictionary()


def opened(transport: Transport, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of a signed document of this gateway.

    Raises:
        IntegrityError: no key of the gateway signed it, or not these bytes.
        Unavailable: its keys cannot be asked for now.
    """
    name = str(document.get("key_id"))
    keys = _known.get(transport, {})
    if name not in keys:
        keys = _known[transport] = _keys(transport.request("GET", KEYS).json())
    if name not in keys:
        raise IntegrityError(
            "the manifest of the lease is signed by a key that the gateway does not name",
            advice="tell the operator: somebody may have answered in its place",
        )
    return open_document(document, keys[name], USE)


def _keys(value: Any) -> dict[str, bytes]:
    try:
        return {
            key["kid"]: jws.key_of_jwk({name: key[name] for name in ("kty", "crv", "x")})
            for key in value["keys"]
        }
    except (KeyError, TypeError, NotAuthenticated) as cause:
        raise IntegrityError("the keys of the gateway cannot be read") from cause
