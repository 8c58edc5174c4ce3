"""The erasure certificate: what was destroyed, signed; it verifies offline with one public key.

Bytes: docs/formats/erasure-certificate-v2.md; certificates of version 1, which did not list
releases of keys, are read for ever. It says what this gateway did and when the key
service calls the root beyond recall; it cannot speak for what was released before, which it lists.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from gateway.crypto import strict_json
from gateway.crypto.signing import Signer, open_document, sign_document
from gateway.errors import IntegrityError

FORMAT = "erasure-certificate-v2"
FORMAT_V1 = "erasure-certificate-v1"
USE = "erasure"
CERTIFICATE_BYTES_MAX = 16 << 20
_MEMBERS: Mapping[str, type] = {
    "format": str,
    "erasure": str,
    "log": str,
    "dataset": str,
    "dataset_id": str,
    "versions": list,
    "columns": list,
    "erased_at": str,
    "destroyed_at": str,
    "effective_on": str,
    "keks": list,
    "roots": dict,
    "deks": int,
    "shards": int,
    "shards_kept": int,
    "custody": str,
    "released": dict,
}
_RELEASED = {"grants", "runs", "keys"}


def issue(signer: Signer, facts: Mapping[str, Any]) -> bytes:
    """Sign the facts (every member of the format but `format`) into the bytes of a certificate."""
    value = {"format": FORMAT, **facts}
    _check(value)
    return strict_json.encode(sign_document(signer, value))


def verify(data: bytes, public_key: bytes) -> dict[str, Any]:
    """The facts of a certificate; IntegrityError unless this key signed exactly these bytes."""
    try:
        document = strict_json.decode(data, bytes_max=CERTIFICATE_BYTES_MAX)
    except strict_json.NotStrictJson as cause:
        raise IntegrityError("an erasure certificate cannot be read") from cause
    value = open_document(document, public_key, USE)
    _check(value)
    return value


def digest_of(data: bytes) -> str:
    """SHA-256 hex of its bytes: what the journal records."""
    return hashlib.sha256(data).hexdigest()


def _check(value: Mapping[str, Any]) -> None:
    if value.get("format") not in (FORMAT, FORMAT_V1):
        raise IntegrityError("an erasure certificate is of an unknown format")
    if set(value) != set(_MEMBERS):
        raise IntegrityError("an erasure certificate has other members than expected")
    if any(type(value[name]) is not kind for name, kind in _MEMBERS.items()):
        raise IntegrityError("an erasure certificate has a member of another type")
    released = value["released"]
    if value["format"] == FORMAT and (
        set(released) != _RELEASED or any(type(some) is not list for some in released.values())
    ):
        raise IntegrityError("an erasure certificate does not say what was released")
