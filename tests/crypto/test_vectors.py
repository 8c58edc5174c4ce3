"""The published vectors of our formats: every ok-* opens, every bad-* is refused by its code."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from connectors.kms.local_file import LocalFileKms
from gateway.crypto import strict_json
from gateway.crypto.details import DetailSealer
from gateway.crypto.key_sheet import KeySheet
from gateway.crypto.tokens import _to_json, verify
from gateway.crypto.vault import KeyVault
from gateway.errors import GatewayError

VECTORS = Path(__file__).parent.parent / "vectors"


def open_sheet(vector: dict[str, Any], _: Path) -> object:
    def unwrap_kek(tenant: str, kek_id: str) -> bytes:
        assert tenant == vector["identity"][0]
        return bytes.fromhex(vector["keks"][kek_id])

    tenant, dataset_id, version = vector["identity"]
    data = strict_json.encode(vector["sheet"])
    sheet = KeySheet.open(data, (tenant, dataset_id, version), unwrap_kek)
    sheet.require_generation(vector["recorded_generation"])
    opened = sheet.unwrap(vector["deks"], unwrap_kek)
    return {dek_id: key.hex() for dek_id, key in opened.items()} == vector["deks"]


def open_vault_file(vector: dict[str, Any], tmp_path: Path) -> object:
    (tmp_path / "roots").mkdir(mode=0o700)
    for name, data in vector["roots"].items():
        (tmp_path / "roots" / name).write_bytes(base64.b64decode(data))
        (tmp_path / "roots" / name).chmod(0o600)
    path = tmp_path / "vault" / vector["path"]
    path.parent.mkdir(mode=0o700, parents=True)
    path.write_text(vector["record"])
    path.chmod(0o600)
    vault = KeyVault(tmp_path / "vault", LocalFileKms(tmp_path / "roots"))
    kind, *rest = Path(vector["path"]).with_suffix("").parts
    ways: dict[str, Callable[..., bytes]] = {
        "secrets": vault.secret,
        "details": vault.detail_key,
        "keks": lambda dataset, name: vault._newest_kek("clinic", dataset, name.split(".")[0])[1],
    }
    return ways[kind](*rest).hex() == vector.get("key")


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

    opened = DetailSealer(MonthKey()).unseal(*vector["place"], vector["sealed"])
    return opened == vector.get("value")


FORMATS: dict[str, Callable[[dict[str, Any], Path], object]] = {
    "key-sheet-v1": open_sheet,
    "key-vault-v1": open_vault_file,
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
