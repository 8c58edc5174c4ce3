"""Make the vectors of training-data-attestation-v1: fixed keys, so that the bytes never change."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.crypto import attestation, strict_json
from gateway.crypto.signing import Signer

DIRECTORY = Path(__file__).parent / "training-data-attestation-v1"
SIGNER, OTHER = Signer(b"\x07" * 32, "attestation"), Signer(b"\x08" * 32, "attestation")
ENTRY = {
    "grant": "grant_aaaaaaaaaaaaaaaaaaaaaaaaaa",
    "erased": False,
    "dataset": "clinic/icu@1",
    "orders": [{"seed": 7, "epoch": 0, "segments": [[0, 4]], "rows_acknowledged": 100}],
}
ERASED = {"grant": "grant_bbbbbbbbbbbbbbbbbbbbbbbbbb", "erased": True, "orders": []}


def facts(*entries: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "run": "startup:sepsis-17",
        "subject": "startup/ml",
        "started_at": "2026-11-25T10:00:00Z",
        "finished_at": "2026-11-25T11:00:00Z",
        "log": "log-0123456789abcdef",
        "log_checkpoint": "gateway\n9\nAAAA\n",
        "finished_index": 7,
        "rows_delivered": 100,
        "rows_acknowledged": 100,
        "delivered": list(entries),
    }


def issued(*entries: Mapping[str, Any]) -> bytes:
    return attestation.issue(SIGNER, "sepsis-v2", "ab" * 32, facts(*entries))


def vector(data: bytes, signer: Signer = SIGNER) -> dict[str, Any]:
    return {"public_key": signer.public_key.hex(), "envelope": data.decode()}


def signed(statement: Mapping[str, Any], kind: str = attestation.PAYLOAD_TYPE) -> dict[str, Any]:
    """Signed rightly, whatever it says."""
    payload = strict_json.encode(statement)
    signature = SIGNER.sign_text(attestation.pae(kind, payload))
    envelope = {
        "payloadType": kind,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": SIGNER.key_id, "sig": base64.b64encode(signature).decode()}],
    }
    return vector(strict_json.encode(envelope))


def vectors() -> dict[str, Any]:
    good = issued(ENTRY)
    envelope = json.loads(good)
    statement = json.loads(base64.b64decode(envelope["payload"]))
    said = statement["predicate"]

    def saying(**changes: Any) -> dict[str, Any]:
        return signed(statement | {"predicate": said | changes})

    two = envelope | {"signatures": envelope["signatures"] * 2}
    return {
        "ok-one-grant": vector(good),
        "ok-erased": vector(issued(ENTRY, ERASED)),
        "ok-nothing-delivered": vector(issued()),
        "bad-integrity-cut": vector(good[:-1]),
        "bad-integrity-edited": vector(good.replace(b'"payload":"ey', b'"payload":"eY')),
        "bad-integrity-other-key": vector(good, OTHER),
        "bad-integrity-two-signatures": vector(strict_json.encode(two)),
        "bad-integrity-other-payload-type": signed(statement, "text/plain"),
        "bad-integrity-other-predicate-type": signed(statement | {"predicateType": "x"}),
        "bad-integrity-trained-on": saying(states="trained on"),
        "bad-integrity-other-root": saying(merkle_root="0" * 64),
        "bad-integrity-left-out": saying(delivered=[]),
        "bad-integrity-unknown-member": saying(more=1),
        "bad-integrity-missing-member": signed(
            statement | {"predicate": {k: v for k, v in said.items() if k != "log"}}
        ),
        "bad-integrity-other-type": saying(rows_delivered=True),
    }


def main() -> None:
    DIRECTORY.mkdir(exist_ok=True)
    for old in DIRECTORY.glob("*.json"):
        old.unlink()
    for case, made in vectors().items():
        text = json.dumps(made, indent=1, sort_keys=True)
        (DIRECTORY / f"{case}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
