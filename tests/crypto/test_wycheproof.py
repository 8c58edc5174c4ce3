"""Project Wycheproof against our crypto room: what must be refused is, what is good opens."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.crypto import envelope, jws, signing
from gateway.crypto.pages import PageOpener
from gateway.errors import IntegrityError, NotAuthenticated

ROOT = Path(__file__).resolve().parent.parent.parent
CORPORA = Path(os.environ.get("GATEWAY_CORPORA", ROOT.parent / "shared" / "corpora"))
FOLDER = CORPORA / "wycheproof" / "testvectors_v1"
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="Wycheproof is absent; set GATEWAY_CORPORA to its parent folder"
)


def cases(name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for group in json.loads((FOLDER / f"{name}_test.json").read_text())["testGroups"]:
        for case in group["tests"]:
            yield group, case


def hexed(case: dict[str, Any], *names: str) -> list[bytes]:
    return [bytes.fromhex(case[name]) for name in names]


def test_aes_gcm_opens_what_is_valid_and_nothing_else() -> None:
    valid = invalid = 0
    for group, case in cases("aes_gcm"):
        key, iv, aad, msg, ct, tag = hexed(case, "key", "iv", "aad", "msg", "ct", "tag")
        if (group["keySize"], group["ivSize"]) != (256, 96):
            continue  # no such key or nonce exists in our formats
        sealed = iv + ct + tag
        if case["result"] == "valid":
            assert envelope.unseal(key, sealed, aad) == msg, case["tcId"]
            valid += 1
        else:
            with pytest.raises(IntegrityError):
                envelope.unseal(key, sealed, aad)
            invalid += 1
    assert valid > 30
    assert invalid > 20


def test_pages_open_what_is_valid_and_leave_zeros_otherwise() -> None:
    seen = 0
    for group, case in cases("aes_gcm"):
        key, iv, aad, msg, ct, tag = hexed(case, "key", "iv", "aad", "msg", "ct", "tag")
        if (group["keySize"], group["ivSize"]) != (256, 96) or case["result"] == "valid":
            continue
        body = iv + ct + tag
        module = len(body).to_bytes(4, "little") + body
        out = bytearray(b"\xff" * len(msg))
        with pytest.raises(IntegrityError):
            PageOpener(key, aad or b"\x00").open_into(memoryview(module), 0, 0, 0, memoryview(out))
        assert not any(out)
        seen += 1
    assert seen > 20


def test_keys_of_other_sizes_are_refused() -> None:
    from gateway.errors import InvalidInput

    for group, case in cases("aes_gcm"):
        if group["keySize"] != 256:
            with pytest.raises(InvalidInput):
                envelope.unseal(bytes.fromhex(case["key"]), bytes(28), b"")


def test_ed25519_signatures_hold_only_when_valid() -> None:
    counts = {"valid": 0, "invalid": 0}
    for group, case in cases("ed25519"):
        public = bytes.fromhex(group["publicKey"]["pk"])
        message, signature = hexed(case, "msg", "sig")
        if case["result"] == "valid":
            signing._verify(public, message, signature)
        else:
            with pytest.raises(IntegrityError):
                signing._verify(public, message, signature)
        counts[case["result"]] += 1
    assert min(counts.values()) > 20


def test_the_token_verifier_refuses_every_invalid_signature() -> None:
    seen = 0
    head = jws.b64url(b'{"alg":"EdDSA","typ":"at+jwt"}')
    for group, case in cases("ed25519"):
        public = bytes.fromhex(group["publicKey"]["pk"])
        if case["result"] == "valid":
            continue
        signature = jws.b64url(bytes.fromhex(case["sig"])) or "A"
        token = f"{head}.{jws.b64url(bytes.fromhex(case['msg'])) or 'e30'}.{signature}"
        compact = jws.Compact(text=token, header={}, claims={})
        with pytest.raises(NotAuthenticated):
            jws.verify(compact, public)
        seen += 1
    assert seen > 20


def test_hkdf_expands_as_the_standard_says() -> None:
    seen = 0
    for _, case in cases("hkdf_sha256"):
        ikm, salt, info, okm = hexed(case, "ikm", "salt", "info", "okm")
        if case["result"] != "valid":
            continue
        key = hmac.digest(salt or bytes(32), ikm, hashlib.sha256)  # RFC 5869 §2.2: extract
        expanded = envelope._expand(key, info)
        size = min(len(okm), 32)
        assert expanded[:size] == okm[:size], case["tcId"]
        seen += 1
    assert seen > 50
