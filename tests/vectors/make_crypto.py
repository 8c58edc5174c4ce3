"""Write the vectors of key-sheet, key-vault (v1), access-token and sealed-detail (v0).

Run it after a change of one of these formats. Nonces are random: every run writes other bytes.
Keys in vectors are public and good for nothing else.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from connectors.kms.local_file import LocalFileKms
from gateway.crypto import certificate, jws, strict_json
from gateway.crypto.details import DetailSealer
from gateway.crypto.key_sheet import SHEET_GROUP, Dek, KeySheet, _mac, _place, _wrap
from gateway.crypto.keyring import Keyring
from gateway.crypto.signing import Signer, sign_document
from gateway.crypto.tokens import TokenClaims, mint

HERE = Path(__file__).parent
DATASET, OTHER_DATASET = "0123456789abcdef0123456789abcdef", "f" * 32
SHARDS = ("a" * 32, "b" * 32)
NOW = 1_800_000_000


def main() -> None:
    """Replace the vectors of the four formats."""
    for name, make in (
        ("key-sheet-v1", key_sheets),
        ("key-vault-v1", keyrings),
        ("erasure-certificate-v1", lambda: certificates(certificate.FORMAT_V1, {})),
        ("erasure-certificate-v2", lambda: certificates(certificate.FORMAT, {"keys": []})),
        ("access-token-v0", access_tokens),
        ("sealed-detail-v0", sealed_details),
    ):
        directory = HERE / name
        directory.mkdir(exist_ok=True)
        for old in directory.glob("*.json"):
            old.unlink()
        for case, vector in make().items():
            text = json.dumps(vector, indent=1, sort_keys=True)
            (directory / f"{case}.json").write_text(text + "\n")


def _dek(shard: int, leaf: str, origin: int, group: str = "data") -> Dek:
    return Dek(
        id=f"{DATASET}/{SHARDS[shard]}/{leaf}",
        key=bytes([shard + 1, len(leaf)]) * 16,
        shard=SHARDS[shard],
        leaf=leaf,
        origin_version=origin,
        group=group,
    )


def key_sheets() -> dict[str, Any]:
    keks = {
        "data": (f"{DATASET}/data/1", b"\x01" * 32),
        "pii": (f"{DATASET}/pii/2", b"\x02" * 32),
        SHEET_GROUP: (f"{DATASET}/sheet/1", b"\x03" * 32),
        "foreign": (f"{OTHER_DATASET}/data/1", b"\x04" * 32),
    }
    two = {d.id: d for d in (_dek(0, "footer", 1), _dek(0, "1", 1))}
    append = {**two, **{d.id: d for d in (_dek(1, "footer", 2), _dek(1, "7.0", 2, "pii"))}}
    identity = ("clinic", DATASET, 2)

    def vector(deks: Mapping[str, Dek], generation: int = 1, recorded: int = 1) -> dict[str, Any]:
        sheet, _ = KeySheet.seal(identity, generation, deks, keks)
        return {
            "identity": list(identity),
            "keks": {kek_id: key.hex() for kek_id, key in keks.values()},
            "recorded_generation": recorded,
            "sheet": sheet._body() | {"mac": _mac(keks[SHEET_GROUP][1], sheet._body())},
            "deks": {dek_id: dek.key.hex() for dek_id, dek in deks.items()},
        }

    def edited(change: Callable[[dict[str, Any]], Any], *, sign: bool) -> dict[str, Any]:
        made = vector(two)
        change(made["sheet"])
        if sign:
            del made["sheet"]["mac"]
            made["sheet"]["mac"] = _mac(keks[SHEET_GROUP][1], made["sheet"])
        return made

    def swap(sheet: dict[str, Any]) -> None:
        first, second = sheet["entries"].values()
        first["wrapped"], second["wrapped"] = second["wrapped"], first["wrapped"]

    def foreign(sheet: dict[str, Any]) -> None:
        dek_id, dek = next(iter(two.items()))
        entry = _wrap(identity, dek_id, dek, keks["foreign"])
        assert _place(identity[:2], dek_id, entry)
        wrapped = base64.b64encode(entry.wrapped).decode()
        sheet["entries"][dek_id] |= {"kek": entry.kek, "wrapped": wrapped}

    first_id = next(iter(two))
    return {
        "ok-one-shard": vector(two),
        "ok-append-two-groups": vector(append, generation=3, recorded=3),
        "ok-newer-than-recorded": vector(two, generation=2, recorded=1),
        "ok-empty": vector({}),
        "bad-integrity-older-generation": vector(two, generation=1, recorded=2),
        "bad-integrity-renamed-generation": edited(lambda s: s.update(generation=9), sign=False),
        "bad-integrity-entry-left-out": edited(lambda s: s["entries"].pop(first_id), sign=False),
        "bad-integrity-keys-swapped": edited(swap, sign=True),
        "bad-integrity-origin-changed": edited(
            lambda s: s["entries"][first_id].update(origin_version=2), sign=True
        ),
        "bad-integrity-kek-of-another-dataset": edited(foreign, sign=True),
        "bad-integrity-other-version": edited(lambda s: s.update(version=1), sign=True),
        "bad-integrity-other-tenant": edited(lambda s: s.update(tenant="startup"), sign=True),
        "bad-integrity-unknown-member": edited(lambda s: s.update(more=1), sign=True),
        "bad-integrity-other-format": edited(lambda s: s.update(format="key-sheet-v2"), sign=True),
        "bad-integrity-generation-zero": edited(lambda s: s.update(generation=0), sign=True),
        "bad-integrity-id-missing": edited(lambda s: s["entries"].pop(first_id), sign=True),
    }


def keyrings() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        kms = LocalFileKms(Path(directory) / "roots")
        for tenant in ("clinic", "clinic", "startup", "_gateway"):
            kms.create_root(tenant)
        roots = {
            path.name: base64.b64encode(path.read_bytes()).decode()
            for path in (Path(directory) / "roots").iterdir()
        }
        keys = {
            f"kek/{DATASET}/data/1": b"\x01" * 32,
            f"kek/{DATASET}/sheet/1": b"\x02" * 32,
            "detail/2026-11": b"\x03" * 32,
        }
        clinic = Keyring(tenant="clinic", generation=4, root=2, keys=keys)
        system = Keyring(
            tenant="_gateway", generation=1, root=1, keys={"secret/master": b"\x04" * 32}
        )
        startup = Keyring(tenant="startup", generation=1, root=1, keys=keys)

        def vector(ring: Keyring, text: str | None = None) -> dict[str, Any]:
            made = {"roots": roots, "tenant": ring.tenant}
            keys = {name: key.hex() for name, key in ring.keys.items()}
            return {**made, "ring": text or ring.seal(kms).decode(), "keys": keys}

        good = json.loads(clinic.seal(kms))

        def edited(**change: Any) -> dict[str, Any]:
            return vector(clinic, strict_json.encode(good | change).decode())

        sealed = base64.b64decode(good["sealed"])
        flipped = base64.b64encode(sealed[:-1] + bytes([sealed[-1] ^ 1])).decode()
        foreign = json.loads(startup.seal(kms))
        return {
            "ok-tenant": vector(clinic),
            "ok-gateway": vector(system),
            "ok-empty": vector(replace(startup, keys={})),
            "bad-integrity-renamed-generation": edited(generation=5),
            "bad-integrity-older-root": edited(root=1),
            "bad-integrity-of-another-tenant": vector(clinic, json.dumps(foreign)),
            "bad-integrity-renamed-tenant": vector(
                clinic, json.dumps(foreign | {"tenant": "clinic"})
            ),
            "bad-integrity-sealed-elsewhere": edited(sealed=foreign["sealed"]),
            "bad-integrity-flipped": edited(sealed=flipped),
            "bad-integrity-cut": edited(sealed=good["sealed"][:-4]),
            "bad-integrity-other-format": edited(format="key-vault-v2"),
            "bad-integrity-unknown-member": edited(more=1),
            "bad-integrity-no-key": vector(replace(clinic, keys={"kek/x": b"short"})),
            "bad-integrity-twice": vector(
                clinic, json.dumps(good)[:-1] + ', "format": "key-vault-v1"}'
            ),
            "bad-key-unavailable-no-root": vector(
                clinic, strict_json.encode(good | {"root": 7}).decode()
            ),
        }


def certificates(version: str, more: dict[str, Any]) -> dict[str, Any]:
    signer, other = Signer(b"\x06" * 32, "erasure"), Signer(b"\x06" * 32, "manifest")
    facts: dict[str, Any] = {
        "erasure": "op_aaaaaaaaaaaaaaaaaaaaaaaaaa",
        "log": "log-0123456789abcdef",
        "dataset": "clinic/icu",
        "dataset_id": DATASET,
        "versions": [{"version": 1, "manifest_digest": "ab" * 32, "rows": 3, "shards": 1}],
        "columns": [],
        "erased_at": "2026-11-25T10:00:00Z",
        "destroyed_at": "2026-11-25T10:00:01Z",
        "effective_on": "2026-12-02T10:00:01Z",
        "keks": [f"{DATASET}/data/1", f"{DATASET}/sheet/1"],
        "roots": {"tenant": "clinic", "destroyed_upto": 1},
        "deks": 4,
        "shards": 1,
        "shards_kept": 0,
        "custody": "0600 files",
        "released": {"grants": [], "runs": [], **more},
    }

    def vector(data: bytes) -> dict[str, Any]:
        return {"public_key": signer.public_key.hex(), "certificate": data.decode()}

    def signed(value: Mapping[str, Any], by: Signer = signer) -> dict[str, Any]:
        return vector(strict_json.encode(sign_document(by, value)))

    full = {"format": version, **facts}
    good = strict_json.encode(sign_document(signer, full))
    column = {"columns": [{"field_id": 2, "name": "größe"}], "shards": 0, "shards_kept": 1}
    run = {"run": "a:b", "rows_acknowledged": 3, "model": None, "artifact_sha256": None}
    grant = {"grant": "grant_a", "tenant": "startup", "rows": 3}
    keys = {
        name: [{"grant": "grant_a", "tenant": "startup", "version": 1, "columns": [1, 2],
                "shards": 1, "keys": 3}]
        for name in more
    }  # fmt: skip
    released = {"released": {"grants": [grant], "runs": [run], **keys}}
    return {
        "ok-dataset": vector(good),
        "ok-column": signed(full | column),
        "ok-released": signed(full | released),
        "bad-integrity-cut": vector(good[:-1]),
        "bad-integrity-spaces": vector(json.dumps(json.loads(good)).encode()[:-1] + b" ,}"),
        "bad-integrity-other-use": signed(full, other),
        "bad-integrity-other-format": signed(full | {"format": "erasure-certificate-v9"}),
        "bad-integrity-unknown-member": signed(full | {"more": 1}),
        "bad-integrity-missing-member": signed({k: v for k, v in full.items() if k != "keks"}),
        "bad-integrity-other-type": signed(full | {"deks": True}),
        **{
            f"bad-integrity-no-{name}": signed(full | {"released": {"grants": [], "runs": []}})
            for name in more
        },
        "bad-integrity-edited": vector(good.replace(b'"payload":"ey', b'"payload":"eY')),
    }


def access_tokens() -> dict[str, Any]:
    signer = Signer(b"\x05" * 32, "token")
    api = TokenClaims(
        issuer="https://gw.example",
        audience="https://gw.example",
        subject="startup/ml",
        type="job",
        jti="AAAAAAAAAAAAAAAAAAAAAA",
        issued_at=NOW,
        expires_at=NOW + 600,
        thumbprint=jws.thumbprint(signer.public_key),
        roles=("trainer",),
    )
    full = replace(
        api,
        grant="grant_aaaaaaaaaaaaaaaaaaaaaaaaaa",
        decision="dec_aaaaaaaaaaaaaaaaaaaaaaaaaa",
        run="run:sepsis",
        plan_digest="ab" * 32,
        policy_epoch=7,
        details=({"type": "dataset_access", "dataset": "clinic/icu@3", "columns": ["age"]},),
    )

    def vector(token: str, **change: Any) -> dict[str, Any]:
        made = {
            "token": token,
            "keys": {signer.key_id: signer.public_key.hex()},
            "audience": api.audience,
            "issuer": api.issuer,
            "now": NOW,
        }
        return made | change

    def accepted(token: str) -> dict[str, Any]:
        return vector(token, claims=_claims(token))

    def forged(header: Mapping[str, Any], claims: Mapping[str, Any]) -> dict[str, Any]:
        parts = [jws.b64url(strict_json.encode(part)) for part in (header, claims)]
        text = ".".join(parts)
        return vector(f"{text}.{jws.b64url(signer.sign_text(text.encode()))}")

    header = {"alg": "EdDSA", "kid": signer.key_id, "typ": "at+jwt"}
    token = mint(signer, api)
    claims = _claims(token)
    newer = forged({**header, "alg": "Ed25519"}, claims)
    code = "not-authenticated"
    return {
        "ok-api": accepted(token),
        "ok-dataset": accepted(mint(signer, full)),
        "ok-newer-name-of-the-algorithm": newer | {"claims": claims},
        f"bad-{code}-expired": vector(token, now=NOW + 600),
        f"bad-{code}-from-the-future": vector(token, now=NOW - 31),
        f"bad-{code}-other-audience": vector(token, audience="https://other.example"),
        f"bad-{code}-other-issuer": vector(token, issuer="https://other.example"),
        f"bad-{code}-other-key": vector(mint(Signer(b"\x06" * 32, "token"), api)),
        f"bad-{code}-alg-none": vector(
            ".".join(
                (
                    jws.b64url(strict_json.encode({**header, "alg": "none"})),
                    token.split(".")[1],
                    "",
                )
            )
        ),
        f"bad-{code}-alg-hs256": forged({**header, "alg": "HS256"}, claims),
        f"bad-{code}-crit": forged({**header, "crit": ["exp"]}, claims),
        f"bad-{code}-jku": forged({**header, "jku": "https://evil.example"}, claims),
        f"bad-{code}-typ-jwt": forged({**header, "typ": "JWT"}, claims),
        f"bad-{code}-padding": vector(token + "=="),
        f"bad-{code}-newline": vector(token + "\n"),
        f"bad-{code}-two-audiences": forged(header, {**claims, "aud": [claims["aud"], "x"]}),
        f"bad-{code}-lives-too-long": forged(header, {**claims, "exp": NOW + 601}),
        f"bad-{code}-unbound": forged(header, {k: v for k, v in claims.items() if k != "cnf"}),
        f"bad-{code}-unknown-claim": forged(header, {**claims, "admin": True}),
    }


def _claims(token: str) -> dict[str, Any]:
    return dict(json.loads(jws.unb64url(token.split(".")[1])))


class _Key:
    """One month's key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def detail_key(self, *_: str) -> bytes:
        return self._key

    known_detail_key = detail_key


def sealed_details() -> dict[str, Any]:
    key = b"\x07" * 32
    sealer = DetailSealer(_Key(key))
    place = ("clinic", "2026-11", "n1/boot/17/owner")

    def vector(detail: Mapping[str, Any], **change: Any) -> dict[str, Any]:
        made = {
            "month_key": key.hex(),
            "place": list(place),
            "sealed": sealer.seal(*place, detail),
        }
        return made | change

    value = {"reason": "contract ended"}
    good = vector(value)["sealed"]
    sealed = base64.b64decode(good["sealed"])
    flipped = base64.b64encode(bytes([sealed[0] ^ 1]) + sealed[1:]).decode()
    return {
        "ok-reason": vector(value, value=value),
        "ok-empty": vector({}, value={}),
        "ok-unicode": vector({"größe": "α\u0000"}, value={"größe": "α\u0000"}),
        "bad-integrity-other-event": vector(value, place=[*place[:2], "n1/boot/18/owner"]),
        "bad-integrity-other-month": vector(value, place=["clinic", "2026-12", place[2]]),
        "bad-integrity-other-tenant": vector(value, place=["startup", *place[1:]]),
        "bad-integrity-other-key": vector(value, month_key="08" * 32),
        "bad-integrity-flipped": vector(value, sealed={**good, "sealed": flipped}),
        "bad-integrity-cut": vector(value, sealed={**good, "sealed": good["sealed"][:-4]}),
        "bad-integrity-commitment": vector(value, sealed={**good, "commitment": "0" * 64}),
        "bad-integrity-unknown-member": vector(value, sealed={**good, "more": ""}),
    }


if __name__ == "__main__":
    main()
