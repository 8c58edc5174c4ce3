"""The published vectors of our formats: every ok-* opens, every bad-* is refused by its code."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from connectors.kms.local_file import LocalFileKms
from gateway.crypto import attestation, certificate, strict_json
from gateway.crypto.details import DetailSealer
from gateway.crypto.key_sheet import KeySheet
from gateway.crypto.keyring import Keyring
from gateway.crypto.tokens import _to_json, verify
from gateway.errors import GatewayError

VECTORS = Path(__file__).parent.parent / "vectors"


def open_sheet(vector: dict[str, Any], _: Path) -> object:
    def unwrap_kek(kek_id: str) -> bytes:
        return bytes.fromhex(vector["keks"][kek_id])

    tenant, dataset_id, version = vector["identity"]
    data = strict_json.encode(vector["sheet"])
    sheet = KeySheet.open(data, (tenant, dataset_id, version), unwrap_kek)
    sheet.require_generation(vector["recorded_generation"])
    opened = sheet.unwrap(vector["deks"], unwrap_kek)
    return {dek_id: key.hex() for dek_id, key in opened.items()} == vector["deks"]


def open_ring(vector: dict[str, Any], tmp_path: Path) -> object:
    (tmp_path / "roots").mkdir(mode=0o700)
    for name, data in vector["roots"].items():
        (tmp_path / "roots" / name).write_bytes(base64.b64decode(data))
        (tmp_path / "roots" / name).chmod(0o600)
    ring = Keyring.open(vector["ring"].encode(), vector["tenant"], LocalFileKms(tmp_path / "roots"))
    return {name: key.hex() for name, key in ring.keys.items()} == vector["keys"]


def open_certificate(vector: dict[str, Any], _: Path) -> object:
    data, key = vector["certificate"].encode(), bytes.fromhex(vector["public_key"])
    return certificate.verify(data, key)


def open_attestation(vector: dict[str, Any], _: Path) -> object:
    data, key = vector["envelope"].encode(), bytes.fromhex(vector["public_key"])
    return attestation.verify(data, key)


def open_token(vector: dict[str, Any], _: Path) -> object:
    claims = verify(
        vector["token"],
        {kid: bytes.fromhex(key) for kid, key in vector["keys"].items()},
        vector["audience"],
        lambda: vector["now"],
        issuer=vector["issuer"],
    )
    return _to_json(claims) == vector.get("claims")


def open_detail(vector: dict[str, Any], _: Path) -> object:
    class MonthKey:
        def detail_key(self, *_: str) -> bytes:
            return bytes.fromhex(vector["month_key"])

        known_detail_key = detail_key

    opened = DetailSealer(MonthKey()).unseal(*vector["place"], vector["sealed"])
    return opened == vector.get("value")


FORMATS: dict[str, Callable[[dict[str, Any], Path], object]] = {
    "key-sheet-v1": open_sheet,
    "key-vault-v1": open_ring,
    "erasure-certificate-v1": open_certificate,
    "erasure-certificate-v2": open_certificate,
    "training-data-attestation-v1": open_attestation,
    "access-token-v0": open_token,
    "sealed-detail-v0": open_detail,
}
CASES = [(name, path) for name in FORMATS for path in sorted((VECTORS / name).glob("*.json"))]


@pytest.mark.parametrize(("name", "path"), CASES, ids=[f"{n}/{p.stem}" for n, p in CASES])
def test_a_vector_is_accepted_or_refused_as_it_says(name: str, path: Path, tmp_path: Path) -> None:
    vector = json.loads(path.read_text())
    if path.stem.startswith("ok-"):
        assert FORMATS[name](vector, tmp_path)
        return
    with pytest.raises(GatewayError) as refusal:
        FORMATS[name](vector, tmp_path)
    assert path.stem.startswith(f"bad-{refusal.value.code}-"), refusal.value


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_has_enough_vectors_of_both_kinds(name: str) -> None:
    stems = [path.stem for path in (VECTORS / name).glob("*.json")]
    assert sum(stem.startswith("ok-") for stem in stems) >= 3
    assert sum(stem.startswith("bad-") for stem in stems) >= 5


def test_a_stranger_reads_our_attestations() -> None:
    """securesystemslib, with which in-toto and Sigstore's tools verify DSSE."""
    vector = json.loads((VECTORS / "training-data-attestation-v1/ok-one-grant.json").read_text())
    envelope = Envelope.from_dict(json.loads(vector["envelope"]))
    (key_id,) = envelope.signatures
    key = SSlibKey(key_id, "ed25519", "ed25519", {"public": vector["public_key"]})
    assert envelope.payload_type == attestation.PAYLOAD_TYPE
    envelope.verify([key], 1)
    envelope.payload += b" "
    with pytest.raises(VerificationError):
        envelope.verify([key], 1)
