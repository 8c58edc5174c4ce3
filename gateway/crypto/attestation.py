"""The training-data attestation: what a run was delivered, bound to the model it made.

An in-toto Statement v1 in a DSSE v1 envelope, so that the tools of software supply chains read
it; the predicate is ours (docs/formats/training-data-attestation-v1.md). It says *delivered*:
nobody outside the job can know what was trained on. The envelope is written here because the
key stays inside its `Signer`, and DSSE is one line: PAE, signed by Ed25519.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.crypto import strict_json
from gateway.crypto.signing import Signer, verify_text
from gateway.crypto.strict_json import b64, unb64
from gateway.domain.merkle import Tree, leaf_hash
from gateway.errors import IntegrityError, InvalidInput

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:dataset-gateway:training-data:v1"
USE = "attestation"
ATTESTATION_BYTES_MAX = 64 << 20
_MEMBERS: Mapping[str, type] = {
    "states": str,
    "run": str,
    "subject": str,
    "started_at": str,
    "finished_at": str,
    "log": str,
    "log_checkpoint": str,
    "finished_index": int,
    "rows_delivered": int,
    "rows_acknowledged": int,
    "delivered": list,
    "merkle_root": str,
}


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding of DSSE v1: what is signed."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def root_of(delivered: Sequence[Mapping[str, Any]]) -> str:
    """RFC 6962 root (hex) whose leaves are the canonical JSON of the entries, in their order."""
    tree = Tree()
    for entry in delivered:
        tree.append(leaf_hash(strict_json.encode(entry)))
    return tree.root().hex()


def issue(signer: Signer, model: str, artifact_sha256: str, facts: Mapping[str, Any]) -> bytes:
    """Sign what a run was delivered into the bytes of an envelope.

    Args:
        signer: a key of use `attestation`.
        model: its name, the subject of the statement.
        artifact_sha256: hex digest of its file.
        facts: every member of the predicate but `states` and `merkle_root`.
    """
    predicate = {**facts, "states": "delivered", "merkle_root": root_of(facts["delivered"])}
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": model, "digest": {"sha256": artifact_sha256}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": predicate,
    }
    _check(statement)
    payload = strict_json.encode(statement)
    signature = signer.sign_text(pae(PAYLOAD_TYPE, payload))
    return strict_json.encode(
        {
            "payloadType": PAYLOAD_TYPE,
            "payload": b64(payload),
            "signatures": [{"keyid": signer.key_id, "sig": b64(signature)}],
        }
    )


def verify(data: bytes, public_key: bytes) -> dict[str, Any]:
    """Return the statement of an envelope that `public_key` (32 bytes, use `attestation`) signed.

    Raises:
        IntegrityError: it cannot be read, another key signed it, a byte of it was changed, it
            is of another type, or its Merkle root is not that of what it lists.
    """
    try:
        envelope = strict_json.decode(data, bytes_max=ATTESTATION_BYTES_MAX)
        kind, payload = envelope["payloadType"], unb64(envelope["payload"])
        signatures = [unb64(signature["sig"]) for signature in envelope["signatures"]]
    except (strict_json.NotStrictJson, KeyError, TypeError, binascii.Error) as cause:
        raise IntegrityError("an attestation cannot be read") from cause
    if kind != PAYLOAD_TYPE or len(signatures) != 1:
        raise IntegrityError("an attestation is an in-toto statement with one signature")
    verify_text(public_key, pae(kind, payload), signatures[0])
    try:
        statement = strict_json.decode(payload, bytes_max=ATTESTATION_BYTES_MAX)
        _check(statement)
    except (strict_json.NotStrictJson, InvalidInput) as cause:
        raise IntegrityError("an attestation is not of a known form") from cause
    return statement


def digest_of(data: bytes) -> str:
    """SHA-256 hex of its bytes: what the journal records."""
    return hashlib.sha256(data).hexdigest()


def _check(statement: Mapping[str, Any]) -> None:
    head = statement.get("_type"), statement.get("predicateType")
    if head != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise InvalidInput("a statement is of another type")
    predicate = statement.get("predicate")
    if not isinstance(predicate, dict) or set(predicate) != set(_MEMBERS):
        raise InvalidInput("a predicate has other members than expected")
    if any(type(predicate[name]) is not kind for name, kind in _MEMBERS.items()):
        raise InvalidInput("a predicate has a member of another type")
    if predicate["states"] != "delivered":
        raise InvalidInput("an attestation states what was delivered")
    if predicate["merkle_root"] != root_of(predicate["delivered"]):
        raise InvalidInput("the Merkle root is not that of the deliveries")
